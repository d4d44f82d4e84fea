"""What becomes of a message on its way through a graph, case by case (spec: Function engine).

Each case is a graph of its own: IDF links, a join, ODF links; messages go in on the links' topics as they are written here, and
what comes out is compared as JSON text, so 1, 1.0 and true differ. `errors` are words of the monitor's esm_error messages.
"""

import json

import pytest

from clients import GraphClient, Mqtt, digest, new_id
from suite import until

TRANSPORTS = ("client", "plugin")
SETTINGS = {"engine.per-owner": 1}
OWNER = "everybody"    # one engine for all: what one graph has done tells of what the others have
PASS = {}
SUM = "def run(*a): return sum(a)\n"


def case(title, send, expect, idf=(PASS,), join=None, odf=(PASS,), errors=()):
    """send: payloads, each (index of the IDF, payload) or a payload for the first; expect: what the first ODF publishes, or a
    list for each ODF when there are several."""
    return pytest.param(list(idf), join, list(odf), [m if isinstance(m, tuple) else (0, m) for m in send],
                        [expect] if len(odf) == 1 else expect, list(errors), id=title)


def f(code, **link):
    return dict(link, func=code)


def body(expression):
    return "def run(*a): return %s\n" % expression


BIG = str(2 ** 63 - 1)
SMALL = str(-2 ** 63)

CASES = [
    # 1. the payload
    case("an array is a list of values", ["[1,2,3]"], ["[1, 2, 3]"]),
    case("an empty array is an empty list", ["[]"], ["[]"]),
    case("a number is a list of one", ["42"], ["[42]"]),
    case("a string is a list of one", ['"a"'], ['["a"]']),
    case("an object is a list of one", ['{"a": [1]}'], ['[{"a": [1]}]']),
    case("true, false, null are lists of one", ["true", "false", "null"], ["[true]", "[false]", "[null]"]),
    case("space around is fine", [" \t\r\n[ 1 ,\n2 ] "], ["[1, 2]"]),
    case("a float stays a float", ["[1.0, 0.1, -0.0, 1e300, 5e-324]"], ["[1.0, 0.1, -0.0, 1e+300, 5e-324]"]),
    case("integers of 64 bits are exact", ["[%s, %s]" % (BIG, SMALL)], ["[%s, %s]" % (BIG, SMALL)]),
    case("floats are exact", ["[0.30000000000000004, 123456789.123456789]"], ["[0.30000000000000004, 123456789.12345679]"]),
    case("text of any script passes", [json.dumps(["\u00fc\u4e2d\U0001f600\0\u007f\"\\/"])],
         [json.dumps(["\u00fc\u4e2d\U0001f600\0\u007f\"\\/"])]),
    case("values of all kinds nest", ['[[1, [2.5, {"a": null, "b": [true, "x"]}]]]'],
         ['[[1, [2.5, {"a": null, "b": [true, "x"]}]]]']),
    case("values reach the function with their types", ['[1, 1.0, true, null, "s", [1], {"k": 1}]'],
         ['["int", "float", "bool", "NoneType", "str", "list", "dict"]'],
         idf=[f(body("[type(x).__name__ for x in a]"))]),
]
for name, payload in {"nothing": b"", "a word": b"garbage", "an open array": b"[1,", "two values": b"1 2", "a comma too many": b"[1,]",
                      "invalid UTF-8": b'["\xff"]', "overlong UTF-8": b'["\xc0\xaf"]', "UTF-16": "[1]".encode("utf-16"), "a NUL": b"\0",
                      "a NUL after JSON": b"[1]\0", "NaN": b"[NaN]", "Infinity": b"[Infinity]", "-Infinity": b"-Infinity",
                      "a number too large for a float": b"[1e999]", "an integer beyond 64 bits": str(2 ** 63).encode(),
                      "a negative integer beyond 64 bits": b"[%d]" % (-2 ** 63 - 1), "a very long integer": b"9" * 5000,
                      "a lone surrogate": b'["\\ud800"]', "a surrogate pair in the wrong order": b'["\\ude00\\ud83d"]',
                      "50,000 open brackets": b"[" * 50000, "50,000 nested arrays": b"[" * 50000 + b"]" * 50000,
                      "40,000 nested objects": b'{"a":' * 40000 + b"1" + b"}" * 40000, "single quotes": b"['a']",
                      "a control character in a string": b'["\n"]', "hexadecimal": b"0x10", "a leading zero": b"[01]"}.items():
    CASES.append(case("%s is dropped and told to the monitor" % name, [payload, "[1]"], ["[1]"], errors=[""]))

CASES += [
    # 2. param_no and tags
    case("param_no must fit", ["[1]", "[1,2,3]", "[]", "[1,2]"], ["[1, 2]"], idf=[{"param_no": 2}], errors=["", "", ""]),
    case("a scalar counts as one value", ["42"], ["[42]"], idf=[{"param_no": 1}]),
    case("tags are not for the function and go behind the output", ['[5, "t1", "t2"]'], ['[6, "t1", "t2"]'],
         idf=[f(body("a[0] + len(a)"), param_no=1, tag_param_no=2)], odf=[{"param_no": 1, "tag_param_no": 2}]),
    case("missing tags are null", ['[5, "t"]'], ['[5, "t", null, null]'], idf=[{"param_no": 1, "tag_param_no": 1}],
         odf=[{"param_no": 1, "tag_param_no": 3}]),
    case("tags an ODF does not take are left out", ['[5, "t1", "t2"]', '[5, "t1", "t2"]'], [['[5, "t1"]'] * 2, ["[5]"] * 2],
         idf=[{"param_no": 1, "tag_param_no": 2}], odf=[{"param_no": 1, "tag_param_no": 1}, {"param_no": 1}]),
    case("without param_no the length is free and there are no tags", ["[1]", "[1,2,3]"], ["[1, null]", "[1, null]"],
         odf=[{"param_no": 1, "tag_param_no": 1}]),
    case("the length with tags must fit", ["[1,2]", "[1,2,3,4]", "[1,2,3]"], ["[1, 2]"], idf=[{"param_no": 2, "tag_param_no": 1}],
         odf=[{"param_no": 2}], errors=["", ""]),
    case("the tag is that of the message that came", ['[1, "a"]', (1, '[2, "b"]'), '[3, "c"]'],
         ['[1, "a"]', '[3, "b"]', '[5, "c"]'], idf=[{"param_no": 1, "tag_param_no": 1}, {"param_no": 1, "tag_param_no": 1}],
         join="def run(x, y): return x + (y or 0)\n", odf=[{"param_no": 1, "tag_param_no": 1}]),
    case("a tag alone", ['["t"]'], ['[0, "t"]'], idf=[f(body("len(a)"), param_no=0, tag_param_no=1)],
         odf=[{"param_no": 1, "tag_param_no": 1}]),

    # 3. input_type
    case("sample gives the value as it is", ["3", "10"], ["[3]", "[10]"], idf=[{"input_type": "sample", "param_no": 1}]),
    case("variant gives the difference", ["3", "10", "4", "4.5"], ["[3]", "[7]", "[-6]", "[0.5]"],
         idf=[{"input_type": "variant", "param_no": 1}]),
    case("each value has its input_type", ["[1,10]", "[2,15]", "[4,15]"], ["[1, 10]", "[2, 5]", "[4, 0]"],
         idf=[{"input_type": ["sample", "variant"], "param_no": 2}]),
    case("what cannot be subtracted passes as it is", ['"a"', '"b"', "5", '"x"', "7", "9", "null", "1"],
         ['["a"]', '["b"]', "[5]", '["x"]', "[7]", "[2]", "[null]", "[1]"], idf=[{"input_type": "variant", "param_no": 1}]),
    case("the function sees the difference", ["3", "10"], ["6", "14"], idf=[f(body("a[0] * 2"), input_type="variant", param_no=1)]),
    case("tags are never differences", ["[3, 100]", "[10, 100]"], ["[3, 100]", "[7, 100]"],
         idf=[{"input_type": "variant", "param_no": 1, "tag_param_no": 1}], odf=[{"param_no": 1, "tag_param_no": 1}]),

    # 4. the IDF function
    case("the function takes each value as an argument", ["[1,2,3]"], ["6"], idf=[f(SUM)]),
    case("a wrong number of arguments is an error of this message", ["[1,2]", "[3]"], ["3"], idf=[f("def run(x): return x\n")],
         errors=["idf function failure:\n"]),
    case("None leaves the slot and sends nothing", ["1", "-1", "2"], ["1", "2"],
         idf=[f("def run(x): return x if x > 0 else None\n")]),
    case("None keeps the slot of a join as it was", ["1", (1, "10"), "-1", (1, "20")], ["[1, null]", "[1, 10]", "[1, 20]"],
         idf=[f("def run(x): return x if x > 0 else None\n"), PASS], join="def run(x, y): return [x, y]\n"),
    case("globals live on", ["0", "0", "0"], ["1", "2", "3"],
         idf=[f("n = 0\ndef run(x):\n    global n\n    n += 1\n    return n\n")]),
    case("two links of one source have globals of their own", ["0", "0", (1, "0")], ["[1, null]", "[2, null]", "[2, 1]"],
         idf=[f("n = 0\ndef run(x):\n    global n\n    n += 1\n    return n\n")] * 2, join="def run(*a): return a\n"),
    case("functions may import the usual modules", ["2"], ["[1.4142135623730951, 3]"],
         idf=[f("import math, json, random, time, datetime, re, collections\ndef run(x):\n"
                "    return [math.sqrt(x), len(json.dumps([x]))]\n")]),
    case("printing disturbs nothing", ["1", "2"], ["1", "2"],
         idf=[f("sys = print.__self__.__import__('sys')\ndef run(x):\n    print('x' * 1000)\n    print(x, file=sys.stderr)\n    return x\n")]),
    case("default arguments, lambdas' kin, decorators, recursion", ["5"], ["[120, 1]"],
         idf=[f("import functools\n@functools.lru_cache\ndef fact(n): return n * fact(n - 1) if n else 1\n"
                "def run(x, y=1): return [fact(x), y]\n")]),

    # 5. the join
    case("without a join one IDF gives its slot", ["[1,2]"], ["[1, 2]"]),
    case("without a join several IDFs give the list of slots", ["[1,2]", (1, "3")], ["[[1, 2], null]", "[[1, 2], [3]]"],
         idf=[PASS, PASS]),
    case("slots of length 1 reach the join as one value", ["[1]", (1, "[1,2]")], ['[1, null]', "[1, [1, 2]]"],
         idf=[PASS, PASS], join="def run(x, y): return [x, y]\n"),
    case("a tuple of length 1 too", ["1"], ['"int"'], idf=[f(body("(a[0],)"))], join=body("type(a[0]).__name__")),
    case("a string or object is no sequence", ['"x"', '{"k": 1}'], ['["x"]', '[{"k": 1}]'],
         idf=[f(body("a[0]"))], join=body("[a[0]]")),
    case("an empty list is given as it is", ["[]"], ['[[]]'], join=body("[a[0]]")),
    case("the others keep their latest values", ["1", (1, "10"), "2", (1, "20"), "3"],
         ["[1, null]", "[1, 10]", "[2, 10]", "[2, 20]", "[3, 20]"], idf=[PASS, PASS], join=body("list(a)")),
    case("slots follow `order`, then the order of adding", ['"a"', (1, '"b"'), (2, '"c"')],
         ['[null, "a", null]', '["b", "a", null]', '["b", "a", "c"]'],
         idf=[{"order": 5}, {"order": 1}, {"order": 5}], join=body("list(a)")),
    case("None from the join sends nothing", ["1", "-1", "2"], ["1", "2"], join="def run(x): return x if x > 0 else None\n"),
    case("an exception in the join ends this message only", ["0", "2"], ["0.5"], join="def run(x): return 1 / x\n",
         errors=["join function failure:\n"]),

    # 6. the ODF function
    case("a list reaches the ODF function as arguments", ["[1,2,3]"], ["[3, 6]"], odf=[f(body("[len(a), sum(a)]"))]),
    case("a tuple too", ["[1,2,3]"], ["[3, 6]"], join=body("(1, 2, 3)"), odf=[f(body("[len(a), sum(a)]"))]),
    case("a join result that is no sequence is one argument", ["5"], ["[5]"], join=body("a[0]"), odf=[f(body("list(a)"))]),
    case("a string is one argument", ['"abc"'], ['["abc"]'], join=body("a[0]"), odf=[f(body("list(a)"))]),
    case("an object is one argument", ['{"k": 1}'], ['[{"k": 1}]'], join=body("a[0]"), odf=[f(body("list(a)"))]),
    case("each ODF has its function", ["3"], [["4"], ["[3]"], ['"3"']], odf=[f(body("a[0] + 1")), PASS, f(body("str(a[0])"))]),
    case("None from one ODF is silent, the others go on", ["3"], [[], ["[3]"]], odf=[f(body("None")), PASS]),
    case("an exception in one ODF ends its path, the others go on", ["0"], [["[0]"], [], ["[0]"]],
         odf=[PASS, f(body("1 / a[0]")), PASS], errors=["odf function failure:\n"]),
    case("two ODFs of one source have globals of their own", ["0", "0"], [["1", "2"], ["1", "2"]],
         odf=[f("n = 0\ndef run(x):\n    global n\n    n += 1\n    return n\n")] * 2),

    # 7. the output
    case("a result longer than param_no is cut", ["[1,2,3]"], ["[1, 2]"], odf=[{"param_no": 2}]),
    case("a shorter one repeats its last value", ["[1,2]"], ["[1, 2, 2, 2]"], odf=[{"param_no": 4}]),
    case("a scalar counts as length 1", ["5"], ["[5, 5]"], join=body("a[0]"), odf=[{"param_no": 2}]),
    case("a string counts as length 1", ['"ab"'], ['["ab", "ab"]'], join=body("a[0]"), odf=[{"param_no": 2}]),
    case("a tuple is a sequence", ["5"], ["[1, 2]"], odf=[f(body("(1, 2)"), param_no=2)]),
    case("an empty result is an error", ["[]", "[1]"], ["[1]"], odf=[{"param_no": 1}], errors=[""]),
    case("without param_no a scalar is published as a scalar", ["5", '"s"', "true", '{"a": 1}', "1.5"],
         ["5", '"s"', "true", '{"a": 1}', "1.5"], idf=[f(body("a[0]"))]),
    case("a tuple is published as an array", ["5"], ["[5, [6]]"], idf=[f(body("(a[0], (6,))"))]),
    case("None inside a list is null", ["5"], ["[null, 5]"], idf=[f(body("[None, a[0]]"))]),
    case("keys of objects become strings as in json.dumps", ["5"], ['{"1": 1, "1.5": 2, "true": 3, "null": 4, "s": 5}'],
         idf=[f(body("dict([(1, 1), (1.5, 2), ('true', 3), (None, 4), ('s', 5)])"))]),
    case("floats are published as Python writes them", ["5"], ["[0.30000000000000004, 1e+16, 1e-07, 5.0]"],
         idf=[f(body("[0.1 + 0.2, 1e16, 1e-7, float(a[0])]"))]),
    case("integers of 64 bits are published exactly", ["5"], ["[%s, %s]" % (BIG, SMALL)], idf=[f(body("[2**63 - 1, -2**63]"))]),
]
for name, expression in {"NaN": "float('nan')", "Infinity": "float('-inf')", "an integer beyond 64 bits": "2**63",
                         "a lone surrogate": "'\\ud800'", "a set": "{1}", "bytes": "b'x'", "a function": "print", "an object": "object()",
                         "a key that is a tuple": "{(1,): 1}"}.items():
    CASES.append(case("%s in a result is a clear error" % name, ["1", "0"], ["0"],
                      idf=[f("def run(x): return [%s] if x else 0\n" % expression)], errors=["failure"]))
CASES += [
    case("a result that holds itself is a clear error", ["1", "0"], ["0"],
         idf=[f("def run(x):\n    if not x: return 0\n    r = []\n    r.append(r)\n    return r\n")], errors=["failure"]),
    case("a result nested too deeply is a clear error", ["1", "0"], ["0"],
         idf=[f("def run(x):\n    r = 0\n    for _ in range(100000 * x): r = [r]\n    return r\n")], errors=["failure"]),
    case("a result that is too large is a clear error", ["1", "0"], ['""'],
         idf=[f("def run(x): return 'x' * (5000000 * x)\n")], errors=["failure"]),
]
# 8. exceptions of every kind end this message's path only
for name, statement in {"an exception": "raise ValueError('why')", "SystemExit": "raise SystemExit(3)", "sys.exit": "print.__self__.__import__('sys').exit()",
                        "KeyboardInterrupt": "raise KeyboardInterrupt", "GeneratorExit": "raise GeneratorExit",
                        "BaseException": "raise BaseException('b')", "exit": "exit(1)", "endless recursion": "run(x)",
                        "MemoryError": "raise MemoryError", "StopIteration": "raise StopIteration",
                        "a string that cannot be printed": "raise ValueError('\\ud800')",
                        "an exception whose text fails": "raise type('E', (Exception,), {'__str__': lambda s: 1/0})()",
                        "an exception with a huge text": "raise ValueError('x' * 10000000)",
                        "a recursion in the text": "raise type('E', (Exception,), {'__str__': lambda s: str(s)})()"}.items():
    CASES.append(case("%s ends this message's path" % name, ["1", "0"], ["0"],
                      idf=[f("def run(x):\n    if x:\n        %s\n    return x\n" % statement)], errors=["idf function failure:\n"]))


@pytest.fixture(scope="module")
def mqtt(suite):
    connection = Mqtt(suite)
    suite.closing.append(connection)
    return connection


class Fence:
    """A graph that passes everything on: when a value came through, all that was sent before it has been evaluated."""

    def __init__(self, mqtt):
        self.mqtt, self.n = mqtt, 0
        da_id = new_id()
        self.g = GraphClient(mqtt, graph=new_id()).wire(da_id, "in", "out", owner=OWNER)
        self.topic = self.g.topic(da_id, "idf", "in")
        self.out = mqtt.subscribe(self.g.topic(da_id, "odf", "out"))

    def wait(self):
        self.n += 1
        self.mqtt.publish(self.topic, [self.n], wait=False)
        self.out.get(lambda m: m.json == [self.n])


@pytest.fixture(scope="module")
def fence(mqtt):
    return Fence(mqtt)


def wired(mqtt, idf, join, odf):
    """The graph of a case. ret: (graph, topics of the IDFs, inboxes of the ODFs, monitor)"""
    g, da_id = GraphClient(mqtt, graph=new_id()), new_id()
    g.ok("attach", owner=OWNER)
    codes = [link["func"] for link in idf + odf if link.get("func")] + ([join] if join else [])
    if codes:
        g.ok("add_funcs", codes=codes, digests=[digest(c) for c in codes])
    for mode, links in (("idf", idf), ("odf", odf)):
        for n, link in enumerate(links):
            func = link.get("func")
            g.ok("add_link", **dict(link, da_id=da_id, func=func and digest(func), **{mode: "%s%d" % (mode, n)}))
    if join:
        g.ok("set_join", prev=None, new=digest(join))
    monitor = g.monitor()
    topics = {(link["mode"], link["feature"]): link["topic"] for link in g.state()["links"]}
    ins = [topics[("idf", "idf%d" % n)] for n in range(len(idf))]
    outs = [mqtt.subscribe(topics[("odf", "odf%d" % n)]) for n in range(len(odf))]
    return g, ins, outs, monitor


def text(payload):
    return json.dumps(json.loads(payload.decode()))


def test_what_functions_print_is_in_the_log_and_on_the_monitor(suite, mqtt):
    say = {name: "def run(x):\n    print(%r, x)\n    return x\n" % (name + " \u2713") for name in ("idf", "join", "odf")}
    g, (topic,), (out,), monitor = wired(mqtt, [{"func": say["idf"]}], say["join"], [{"func": say["odf"]}])
    mqtt.publish(topic, [7], wait=False)
    monitor.get(lambda m: m.json["op"] == "monitor_info")
    told = [m.json["data"] for m in monitor.take_all()]
    assert [(t["mode"], t["text"]) for t in told] == [(m, m + " \u2713 7\n") for m in ("idf", "join", "odf")]
    links = {link["mode"]: [link["da_id"], link["feature"]] for link in g.state()["links"]}
    assert [t["id"] for t in told] == [links["idf"], None, links["odf"]]
    until(lambda: 'line="odf \u2713 7"' in suite.processes["agent"].log(), what="the line in the log")
    g.send("detach", wait=False)


@pytest.mark.parametrize("idf, join, odf, send, expect, errors", CASES)
def test_engine(mqtt, fence, idf, join, odf, send, expect, errors):
    g, ins, outs, monitor = wired(mqtt, idf, join, odf)
    for n, payload in send:
        mqtt.publish(ins[n], payload, wait=False)
    fence.wait()
    assert [[text(m.payload) for m in out.take_all()] for out in outs] == \
        [[text(e.encode()) for e in per_odf] for per_odf in expect]
    told = [m.json["data"]["msg"] for m in monitor.take_all() if m.json["op"] == "esm_error"]
    assert len(told) == len(errors) and all(word in msg for word, msg in zip(errors, told)), [t[:300] for t in told]
    g.send("detach", wait=False)


def test_what_is_dropped_is_counted(suite, mqtt, fence):
    g, (topic,), (out,), monitor = wired(mqtt, [{"param_no": 1}], None, [PASS])

    def drops():
        return sum(v for n, labels, v in suite.metrics() if n == "iottalk_agent_counter" and "drop" in labels["name"])

    before = drops()
    for payload in (b"garbage", b"[1,2]", b"\xff"):
        mqtt.publish(topic, payload)
    until(lambda: drops() >= before + 3, 5, "three more drops in the agent's counters")


def test_output_is_published_no_higher_than_the_message_came(mqtt):
    g, (topic,), (out,), monitor = wired(mqtt, [PASS], None, [PASS])
    for qos in (0, 1, 2, 0):
        mqtt.publish(topic, [qos], qos)
        message = out.get()
        assert (message.json, message.qos, message.retain) == ([qos], qos, False)


def test_a_configured_qos_holds_for_all_output(make_suite, clients):
    suite = make_suite({"engine.qos": 1})
    g, (topic,), (out,), monitor = wired(clients.mqtt(suite), [PASS], None, [PASS])
    for qos in (0, 1, 2):
        g.mqtt.publish(topic, [qos], qos)
        assert out.get().qos == 1


def test_retained_messages_are_taken_live_but_their_replay_is_ignored(make_suite, clients):
    suite = make_suite()
    mqtt = clients.mqtt(suite)
    g, (topic,), (out,), monitor = wired(mqtt, [PASS], None, [PASS])
    mqtt.publish(topic, [1], 1, retain=True)
    assert out.get().json == [1]
    g.ok("rm_link", da_id=g.state()["links"][0]["da_id"], odf="odf0")
    suite.restart("agent")
    fence = Fence(mqtt)
    suite.restart("agent")   # subscribes to the topic with the retained message again
    suite.until_runs(g)
    suite.until_runs(fence.g)
    fence.wait()
    mqtt.publish(topic, [2], 1)
    assert monitor.get(lambda m: m.json["data"]["idf"]["input"] == [2])
    assert [m.json["data"]["idf"]["input"] for m in monitor.take_all()] == [[1]]


def test_a_function_keeps_its_state_and_slots_while_others_change(mqtt):
    count = "n = 0\ndef run(x):\n    global n\n    n += 1\n    return n\n"
    g, ins, (out,), monitor = wired(mqtt, [f(count), f(count)], body("list(a)"), [PASS])
    da_id = g.state()["links"][0]["da_id"]
    other, more = "def run(x): return 'other'\n", "def run(*a): return ['new', *a]\n"
    g.add_funcs(other, more)

    def send(n):
        mqtt.publish(ins[n], "0")
        return out.get().json

    assert [send(0), send(1)] == [[1, None], [1, 1]]
    g.ok("set_df_func", da_id=da_id, idf="idf1", prev=digest(count), new=digest(other))
    assert send(0) == [2, 1]                 # slot and globals of both as they were
    assert send(1) == [2, "other"]
    g.ok("set_join", prev=digest(body("list(a)")), new=digest(more))
    assert send(0) == ["new", 3, "other"]
    g.ok("add_link", da_id=da_id, idf="idf2", func=None)
    assert send(0) == ["new", 4, "other", None]
    g.ok("rm_link", da_id=da_id, idf="idf2")
    assert send(0) == ["new", 5, "other"]
    g.ok("set_df_func", da_id=da_id, idf="idf1", prev=digest(other), new=digest(count))
    assert send(1) == ["new", 5, 1]          # changed: begins anew
    g.ok("rm_link", da_id=da_id, idf="idf0")
    g.ok("add_link", da_id=da_id, idf="idf0", func=digest(count), order=0)
    ins[0] = g.topic(da_id, "idf", "idf0")
    assert send(0) == ["new", 1, 1]          # another link now: begins anew


def test_input_differences_survive_other_changes(mqtt):
    g, (topic,), (out,), monitor = wired(mqtt, [{"input_type": "variant", "param_no": 1}], None, [PASS])
    mqtt.publish(topic, "10")
    assert out.get().json == [10]
    same = "def run(*a): return list(a)\n"
    g.add_funcs(same)
    g.ok("set_join", prev=None, new=digest(same))
    mqtt.publish(topic, "13")
    assert out.get().json == [3]


def test_messages_of_one_link_stay_in_order(mqtt):
    g, (topic,), (out,), monitor = wired(mqtt, [PASS], None, [PASS])
    g.ok("stop_monitor")
    for n in range(2000):
        mqtt.publish(topic, [n], 1, wait=False)
    got = out.wait_for(lambda all: len(all) >= 2000, 20)
    assert [m.json[0] for m in got] == list(range(2000))


def test_a_payload_over_the_limit_is_dropped_and_counted(suite, mqtt, fence):
    g, (topic,), (out,), monitor = wired(mqtt, [PASS], None, [PASS])
    before = {labels["name"]: v for n, labels, v in suite.metrics() if n == "iottalk_agent_counter"}
    mqtt.publish(topic, "[%s]" % ("1," * 200000 + "1"))
    mqtt.publish(topic, "[1]")
    assert out.get().json == [1]

    def counted():
        now = {labels["name"]: v for n, labels, v in suite.metrics() if n == "iottalk_agent_counter"}
        return any("too_large" in k and v > before.get(k, 0) for k, v in now.items())
    until(counted, 5, "too_large in the agent's counters")


def test_a_payload_just_below_the_limit_passes(mqtt):
    g, (topic,), (out,), monitor = wired(mqtt, [PASS], None, [PASS])
    g.ok("stop_monitor")
    numbers = list(range(40000))
    payload = json.dumps(numbers, separators=(",", ":"))
    assert 200000 < len(payload) < 262144
    mqtt.publish(topic, payload)
    assert out.get().json == numbers
