-- version 2: features that an operator has suspended
CREATE TABLE suspension (
	da_id     TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
	mode      TEXT NOT NULL,
	feature   TEXT NOT NULL,
	suspended INTEGER NOT NULL,           -- 1: SUSPEND is wished, 0: RESUME, until the device has answered it
	answered  INTEGER NOT NULL DEFAULT 0, -- 1: the device has, or let the time pass
	reason    TEXT,                       -- why it did not do it
	since     DOUBLE PRECISION NOT NULL,
	PRIMARY KEY (da_id, mode, feature)
);
