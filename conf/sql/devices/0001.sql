-- The device service's store, version 1. Times are microseconds since 1970 UTC.

-- What others told us last, by topic (gateway-devices 1.5).
CREATE TABLE state (
	topic      TEXT PRIMARY KEY,
	body       TEXT NOT NULL,
	changed_us BIGINT NOT NULL
);

-- Which device applications of ours csm knows; device: "type/name".
CREATE TABLE registration (
	id     TEXT PRIMARY KEY,
	device TEXT NOT NULL
);

-- What waits to be sent. sink: 0 events, 1 values; keep: 1 the latest of its address, 2 all; seq: in order of emission, per device;
-- put_us: by a clock that is not put right with the wall's (the note of it is "clock:" in state); size: bytes that it counts in its
-- device's quota.
CREATE TABLE outbox (
	device  TEXT NOT NULL,
	sink    INTEGER NOT NULL,
	keep    INTEGER NOT NULL,
	seq     BIGINT NOT NULL,
	address TEXT NOT NULL,
	body    TEXT NOT NULL,
	retain  INTEGER NOT NULL,
	put_us  BIGINT NOT NULL,
	size    BIGINT NOT NULL,
	PRIMARY KEY (device, sink, keep, seq)
);
