/* engine: what functions may import, and what becomes of builtins that they spoil. */
#include "tests/engine/world.h"

/* A graph whose function is `body` after `head`. */
static void put(struct world *w, const char *head, const char *body)
{
	char source[2000];
	snprintf(source, sizeof(source), "%sdef run(x):\n    %s\n", head, body);
	json_auto_t *doc = json_pack("{s:[{s:i, s:s}], s:[{s:i}]}", "idf", "slot", 1, "func",
				     source, "odf", "slot", 2);
	char *text = json_dumps(doc, 0);
	int rc = world_put(w, text);
	free(text);
	if (rc < 0)
		fail_msg("%s: %s", source, text_str(&w->why));
}

static const char *result(struct world *w, const char *payload)
{
	world_send(w, 1, payload);
	return world_log(w);
}

#define LIST                                                                                   \
	"base64, bisect, collections, copy, dataclasses, datetime, decimal, enum, fractions, " \
	"functools, hashlib, heapq, itertools, json, math, "

static void modules_of_the_list_are_there(void **state)
{
	static const char *const names[] = {
		"json",         "math",         "statistics",  "random",          "time",
		"datetime",     "re",           "collections", "itertools",       "functools",
		"decimal",      "fractions",    "struct",      "base64",          "hashlib",
		"string",       "bisect",       "heapq",       "operator",        "copy",
		"typing",       "enum",         "dataclasses", "collections.abc", "json.decoder",
		"json.encoder", "json.scanner",
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char head[100];
		snprintf(head, sizeof(head), "import %s as m\nfrom %s import *\n", names[i],
			 names[i]);
		put(w, head, "return m.__name__ != ''");
		assert_string_equal(result(w, "1"), "2 true\n");
	}
}

static void other_modules_are_refused_with_the_list(void **state)
{
	static const char *const statements[] = {
		"import os",
		"import sys",
		"import builtins",
		"import ctypes",
		"import _thread",
		"import gc",
		"import _io",
		"import _strptime",
		"import importlib.util",
		"import os.path",
		"import json.tool_that_is_not_there_",
		"import re._parser",
		"from json import _default_decoder; import json._x",
		"from os import path",
		"from . import x",
		"from .json import x",
		"__import__('os')",
		"__import__('unicodedata')",
		"__import__('socket', fromlist=['a'])",
		"__import__('json', level=1)",
		"exec('import os')",
		"exec('import os', {})",
		"eval('__import__(\\'os\\')', {}, {})",
		"import nonexistent",
		"import math\x01",
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
		char body[300];
		snprintf(body, sizeof(body),
			 "try:\n        exec(%s%s%s)\n    except BaseException as e: return "
			 "[type(e).__name__, str(e)]",
			 "'''", statements[i], "'''");
		put(w, "", body);
		const char *got = result(w, "1");
		bool said =
			strstr(got, "2 [\"ImportError\",\"module '") == got &&
			strstr(got, "may not be imported; a function may import: " LIST) != NULL;
		if (!said && strstr(got, "a function is in no package") == NULL &&
		    strstr(got, "ModuleNotFoundError") == NULL &&
		    strstr(got, "SyntaxError") == NULL)
			fail_msg("%s: %s", statements[i], got);
	}
	/* at load time it is the reason of the refusal */
	assert_int_equal(world_put(w,
				   "{\"idf\": [{\"slot\": 1, \"func\": \"import os\\ndef run(x): "
				   "return x\\n\"}]}"),
			 ERR_SCHEMA);
	assert_non_null(strstr(text_str(&w->why), "import os\nImportError: module 'os' may not be "
						  "imported; a function may import: " LIST));
}

static void what_modules_import_late_is_there(void **state)
{
	static const struct {
		const char *head, *body, *json;
	} cases[] = {
		{"import time\n", "return time.strptime('2020', '%Y').tm_year", "2020"},
		{"import datetime\n",
		 "return datetime.datetime.strptime('2020-02-03', '%Y-%m-%d').day", "3"},
		{"", "return eval('\"\\\\N{BULLET}\"')", "\"\xe2\x80\xa2\""},
		{"import re\n", "return re.findall(r'\\N{BULLET}', 'a\\u2022')",
		 "[\"\xe2\x80\xa2\"]"},
		{"import collections\n", "return collections.Counter('aab').most_common(1)",
		 "[[\"a\",2]]"},
		{"import functools, typing\n",
		 "f = functools.singledispatch(lambda v: 1)\n    @f.register\n    def _(v: "
		 "typing.Union[int, "
		 "str]): return 2\n    return [f(1), f(1.5)]",
		 "[2,1]"},
		{"import hashlib\n",
		 "return [hashlib.new(n, b'').digest_size for n in "
		 "sorted(hashlib.algorithms_guaranteed) if "
		 "'shake' not in n]",
		 "[64,32,16,20,28,32,48,28,32,48,64,64]"},
		{"import enum\n", "return enum.Flag('F', 'A B').A.name", "\"A\""},
		{"import fractions, decimal\n",
		 "return [fractions.Fraction(decimal.Decimal('0.5')) == 0.5, "
		 "round(fractions.Fraction(7, 2))]",
		 "[true,4]"},
		{"import json\n", "return json.loads(json.dumps({'a': [1.5, None]}))",
		 "{\"a\":[1.5,null]}"},
		{"import json\n",
		 "try: json.loads('{')\n    except json.JSONDecodeError as e: return e.pos", "1"},
		{"import random\n",
		 "random.seed(1); return [0 <= random.gauss(0, 1) < 9 or True, "
		 "len(random.sample(range(9), 3)), "
		 "0 <= random.SystemRandom().random() < 1]",
		 "[true,3,true]"},
		{"import statistics\n",
		 "return [statistics.median([1, 2, 9]), round(statistics.NormalDist(0, "
		 "1).inv_cdf(0.5), 3)]",
		 "[2,0.0]"},
		{"import copy, operator, functools\n",
		 "return [copy.deepcopy(operator.itemgetter(0))([7]), "
		 "copy.copy(functools.partial(int, '5'))()]",
		 "[7,5]"},
		{"import dataclasses, typing\n@dataclasses.dataclass(order=True)\nclass P:\n    x: "
		 "int\n    y: typing.List[int] = dataclasses.field(default_factory=list)\n",
		 "return dataclasses.asdict(dataclasses.replace(P(1), x=2))", "{\"x\":2,\"y\":[]}"},
		{"", "return 'b\\u00fccher'.encode('idna').decode()", "\"xn--bcher-kva\""},
		{"", "return 'a'.encode('utf-16-le').hex()", "\"6100\""},
		{"import time, datetime\n",
		 "return [time.strftime('%Y', time.gmtime(0)), "
		 "datetime.datetime.fromtimestamp(0, datetime.timezone.utc).strftime('%d')]",
		 "[\"1970\",\"01\"]"},
		{"import decimal\n", "return str(decimal.Decimal(2).sqrt())[:6]", "\"1.4142\""},
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char want[200];
		put(w, cases[i].head, cases[i].body);
		snprintf(want, sizeof(want), "2 %s\n", cases[i].json);
		const char *got = result(w, "1");
		if (strcmp(got, want) != 0)
			fail_msg("%s: %s %s", cases[i].body, got, w->fault);
	}
}

/* len is what the spoilers take away; the traceback of another function's failure needs the
 * library. */
static void spoilt_builtins_last_no_longer_than_the_call(void **state)
{
	static const char *const spoilers[] = {
		"__builtins__['len'] = None",
		"del __builtins__['len']",
		"__builtins__.clear()",
		"print.__self__.len = None",
		"del print.__self__.len",
		"print.__self__.__dict__.clear()",
		"__builtins__['__import__'] = None",
		"__builtins__.update(dict.fromkeys(list(__builtins__)))",
	};
	struct world *w = *state;
	world_must_put(w,
		       "{\"id\": \"other\", \"monitor_slot\": 9, \"idf\": [{\"slot\": 7, \"func\": "
		       "\"def run(x):\\n  import json\\n  return len([1, 2]) / x\\n\"}], \"odf\": "
		       "[{\"slot\": 8}]}");
	for (size_t i = 0; i < ARRAY_LEN(spoilers); i++) {
		put(w, "", spoilers[i]);
		result(w, "1");
		world_send(w, 7, "2");
		const char *got = world_log(w);
		if (strncmp(got, "8 1.0\n9 {\"op\":\"monitor_info\"", 28) != 0)
			fail_msg("%s: %s %s", spoilers[i], got, w->fault);
		world_send(w, 7, "0");
		got = world_log(w);
		if (strstr(got, "ZeroDivisionError: division by zero") == NULL ||
		    strstr(got, "return len([1, 2]) / x") == NULL)
			fail_msg("%s: %s", spoilers[i], got);
		/* and at load time */
		char head[200];
		snprintf(head, sizeof(head), "%s\n", spoilers[i]);
		put(w, head, "return len([x])");
		assert_string_equal(result(w, "1"), "2 1\n");
	}
}

static void functions_share_builtins_but_no_globals(void **state)
{
	struct world *w = *state;
	put(w, "",
	    "return [type(__builtins__).__name__, __builtins__ is len.__self__.__dict__, "
	    "__name__]");
	assert_string_equal(result(w, "1"), "2 [\"dict\",false,\"iot_function\"]\n");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(modules_of_the_list_are_there),
		T(other_modules_are_refused_with_the_list),
		T(what_modules_import_late_is_there),
		T(spoilt_builtins_last_no_longer_than_the_call),
		T(functions_share_builtins_but_no_globals),
	};
	return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
