-- csm's store, version 1. JSON is kept as text; times are seconds since 1970 UTC.
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
);

CREATE TABLE device (
	id            TEXT PRIMARY KEY,
	rev           TEXT NOT NULL,
	name          TEXT NOT NULL,
	register_time DOUBLE PRECISION NOT NULL,
	accept_protos TEXT NOT NULL,
	idf_list      TEXT,
	odf_list      TEXT,
	profile       TEXT NOT NULL,
	online        INTEGER NOT NULL DEFAULT 0,
	state_since   DOUBLE PRECISION NOT NULL
);

-- retained messages of deregistered devices that are still to be cleared
CREATE TABLE cleanup (
	device_id TEXT PRIMARY KEY,
	due       DOUBLE PRECISION NOT NULL
);
CREATE INDEX cleanup_due ON cleanup (due);

CREATE TABLE func (
	digest TEXT PRIMARY KEY,
	code   TEXT NOT NULL,
	doomed INTEGER NOT NULL DEFAULT 0
);

-- commands to devices that may not have reached them: sent again after a restart
CREATE TABLE command (
	da_id   TEXT NOT NULL,
	feature TEXT NOT NULL,
	mode    TEXT NOT NULL,
	command TEXT NOT NULL,
	topic   TEXT NOT NULL,
	PRIMARY KEY (da_id, feature, mode)
);

-- clients of the device API that hear announcements
CREATE TABLE device_client (
	client TEXT PRIMARY KEY
);

CREATE TABLE graph (
	client    TEXT NOT NULL,
	graph_id  TEXT NOT NULL,
	owner     TEXT NOT NULL,
	agent     TEXT,
	confirmed TEXT NOT NULL,
	proposed  TEXT,
	PRIMARY KEY (client, graph_id)
);

