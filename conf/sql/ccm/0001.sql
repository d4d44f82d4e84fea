-- Projects, models, functions, accounts (spec ccm 2). Ids are never reused. Names are unique byte for byte.
-- Times are UTC text, YYYY-MM-DD HH:MM:SS; dates YYYY-MM-DD; booleans 0 and 1.

CREATE TABLE User (
	u_id INTEGER PRIMARY KEY AUTOINCREMENT,
	u_name TEXT NOT NULL UNIQUE CHECK (length(u_name) BETWEEN 1 AND 255),
	passwd TEXT NOT NULL DEFAULT '', -- of crypto_pwhash_str(); empty: nobody can log in with a password
	is_active INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
	is_deleted INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1)),
	is_authenticated INTEGER NOT NULL DEFAULT 1 CHECK (is_authenticated IN (0, 1)),
	is_anonymous INTEGER NOT NULL DEFAULT 0 CHECK (is_anonymous IN (0, 1)),
	is_admin INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
	sub TEXT UNIQUE,
	email TEXT NOT NULL DEFAULT '',
	created_at TEXT,
	updated_at TEXT
);

-- Logins: of the cookie's value only the SHA-256 is kept.
CREATE TABLE Session (
	digest TEXT PRIMARY KEY,
	u_id INTEGER NOT NULL REFERENCES User ON DELETE CASCADE,
	expires_at INTEGER NOT NULL -- seconds since 1970
) WITHOUT ROWID;
CREATE INDEX session_of_user ON Session (u_id);
CREATE INDEX session_end ON Session (expires_at);

CREATE TABLE DeviceFeatureCategory (
	dfc_id INTEGER PRIMARY KEY AUTOINCREMENT,
	dfc_name TEXT NOT NULL UNIQUE CHECK (length(dfc_name) BETWEEN 1 AND 255)
);

CREATE TABLE DeviceFeature (
	df_id INTEGER PRIMARY KEY AUTOINCREMENT,
	df_name TEXT NOT NULL UNIQUE CHECK (length(df_name) BETWEEN 1 AND 255),
	df_type TEXT NOT NULL CHECK (df_type IN ('input', 'output')),
	df_category TEXT NOT NULL DEFAULT 'None' REFERENCES DeviceFeatureCategory (dfc_name),
	param_no INTEGER NOT NULL DEFAULT 0 CHECK (param_no >= 0),
	comment TEXT NOT NULL DEFAULT ''
);

CREATE TABLE DeviceModel (
	dm_id INTEGER PRIMARY KEY AUTOINCREMENT,
	dm_name TEXT NOT NULL UNIQUE CHECK (length(dm_name) BETWEEN 1 AND 255),
	dm_type TEXT NOT NULL DEFAULT 'other' CHECK (dm_type IN ('smartphone', 'wearable', 'other')),
	plural INTEGER NOT NULL DEFAULT 0 CHECK (plural IN (0, 1)),
	device_only INTEGER NOT NULL DEFAULT 0 CHECK (device_only IN (0, 1))
);

CREATE TABLE DM_DF (
	mf_id INTEGER PRIMARY KEY AUTOINCREMENT,
	dm_id INTEGER NOT NULL REFERENCES DeviceModel ON DELETE CASCADE,
	df_id INTEGER NOT NULL REFERENCES DeviceFeature,
	UNIQUE (dm_id, df_id)
);
CREATE INDEX dm_df_of_feature ON DM_DF (df_id);

CREATE TABLE Unit (
	unit_id INTEGER PRIMARY KEY AUTOINCREMENT,
	unit_name TEXT NOT NULL UNIQUE CHECK (length(unit_name) BETWEEN 1 AND 255)
);

CREATE TABLE Function (
	fn_id INTEGER PRIMARY KEY AUTOINCREMENT,
	fn_name TEXT NOT NULL UNIQUE CHECK (length(fn_name) BETWEEN 1 AND 255),
	is_protect INTEGER NOT NULL DEFAULT 0 CHECK (is_protect IN (0, 1))
);

CREATE TABLE FunctionVersion (
	fnvt_idx INTEGER PRIMARY KEY AUTOINCREMENT,
	fn_id INTEGER NOT NULL REFERENCES Function ON DELETE CASCADE,
	u_id INTEGER REFERENCES User ON DELETE CASCADE, -- NULL: general
	date TEXT NOT NULL,
	code TEXT NOT NULL,
	completeness INTEGER DEFAULT 1 CHECK (completeness IN (0, 1)),
	is_switch INTEGER DEFAULT 0 CHECK (is_switch IN (0, 1)),
	non_df_args TEXT DEFAULT ''
);
CREATE INDEX version_of_function ON FunctionVersion (fn_id, u_id, fnvt_idx);
CREATE INDEX version_of_user ON FunctionVersion (u_id);

-- Where a function is offered: for a feature, or (df_id NULL) for joins; to a user, or (u_id NULL) to all.
CREATE TABLE FunctionSDF (
	fnsdf_id INTEGER PRIMARY KEY AUTOINCREMENT,
	fn_id INTEGER NOT NULL REFERENCES Function ON DELETE CASCADE,
	u_id INTEGER REFERENCES User ON DELETE CASCADE,
	df_id INTEGER REFERENCES DeviceFeature ON DELETE CASCADE,
	display INTEGER NOT NULL DEFAULT 1 CHECK (display IN (0, 1))
);
CREATE UNIQUE INDEX sdf_once ON FunctionSDF (fn_id, ifnull(u_id, 0), ifnull(df_id, 0));
CREATE INDEX sdf_of_feature ON FunctionSDF (df_id);
CREATE INDEX sdf_of_user ON FunctionSDF (u_id);

-- At feature level (df_id) or at model level (mf_id), for all (u_id NULL) or as one user has it.
CREATE TABLE DF_Parameter (
	dfp_id INTEGER PRIMARY KEY AUTOINCREMENT,
	df_id INTEGER REFERENCES DeviceFeature ON DELETE CASCADE,
	mf_id INTEGER REFERENCES DM_DF ON DELETE CASCADE,
	param_i INTEGER NOT NULL CHECK (param_i >= 0),
	param_type TEXT NOT NULL DEFAULT 'int' CHECK (param_type IN ('int', 'float', 'boolean', 'void', 'string', 'json')),
	u_id INTEGER REFERENCES User ON DELETE CASCADE,
	idf_type TEXT NOT NULL DEFAULT 'sample' CHECK (idf_type IN ('variant', 'sample')),
	fn_id INTEGER REFERENCES Function,
	min REAL NOT NULL DEFAULT 0,
	max REAL NOT NULL DEFAULT 0,
	normalization INTEGER NOT NULL DEFAULT 0 CHECK (normalization IN (0, 1)),
	unit_id INTEGER NOT NULL DEFAULT 1 REFERENCES Unit,
	CHECK ((df_id IS NULL) <> (mf_id IS NULL))
);
CREATE UNIQUE INDEX parameter_once ON DF_Parameter (ifnull(df_id, 0), ifnull(mf_id, 0), ifnull(u_id, 0), param_i);
CREATE INDEX parameter_of_feature ON DF_Parameter (df_id);
CREATE INDEX parameter_of_model ON DF_Parameter (mf_id);
CREATE INDEX parameter_of_user ON DF_Parameter (u_id);
CREATE INDEX parameter_of_function ON DF_Parameter (fn_id);

CREATE TABLE Tag (
	tag_id INTEGER PRIMARY KEY AUTOINCREMENT,
	tag_name TEXT NOT NULL CHECK (length(tag_name) BETWEEN 1 AND 255),
	param_no INTEGER NOT NULL DEFAULT 0 CHECK (param_no >= 0)
);

CREATE TABLE Tag_Parameter (
	tagp_id INTEGER PRIMARY KEY AUTOINCREMENT,
	tag_id INTEGER REFERENCES Tag ON DELETE CASCADE,
	param_i INTEGER NOT NULL,
	param_type TEXT NOT NULL CHECK (param_type IN ('int', 'float', 'boolean', 'void', 'string', 'json')),
	min REAL DEFAULT 0,
	max REAL DEFAULT 0,
	unit_id INTEGER NOT NULL DEFAULT 1 REFERENCES Unit
);
CREATE INDEX parameter_of_tag ON Tag_Parameter (tag_id);

CREATE TABLE DM_DF_Tag (
	mft_id INTEGER PRIMARY KEY AUTOINCREMENT,
	mf_id INTEGER NOT NULL REFERENCES DM_DF ON DELETE CASCADE,
	tag_id INTEGER NOT NULL REFERENCES Tag,
	UNIQUE (mf_id, tag_id)
);
CREATE INDEX feature_of_tag ON DM_DF_Tag (tag_id);

CREATE TABLE Device (
	d_id INTEGER PRIMARY KEY AUTOINCREMENT,
	mac_addr TEXT NOT NULL UNIQUE,
	monitor TEXT NOT NULL DEFAULT '',
	d_name TEXT NOT NULL,
	status TEXT NOT NULL DEFAULT 'online' CHECK (status IN ('online', 'offline')),
	u_id INTEGER REFERENCES User ON DELETE SET NULL,
	dm_id INTEGER NOT NULL REFERENCES DeviceModel,
	is_sim INTEGER NOT NULL DEFAULT 0 CHECK (is_sim IN (0, 1)),
	register_time TEXT NOT NULL,
	extra_setup_webpage TEXT NOT NULL DEFAULT '',
	device_webpage TEXT NOT NULL DEFAULT ''
);
CREATE INDEX device_of_model ON Device (dm_id, u_id);
CREATE INDEX device_of_user ON Device (u_id);

CREATE TABLE Project (
	p_id INTEGER PRIMARY KEY AUTOINCREMENT,
	p_name TEXT NOT NULL CHECK (length(p_name) BETWEEN 1 AND 255),
	u_id INTEGER NOT NULL REFERENCES User ON DELETE CASCADE,
	status TEXT NOT NULL DEFAULT 'off' CHECK (status IN ('on', 'off')),
	restart INTEGER NOT NULL DEFAULT 0 CHECK (restart IN (0, 1)),
	exception TEXT NOT NULL DEFAULT '',
	sim TEXT NOT NULL DEFAULT 'off' CHECK (sim IN ('on', 'off')),
	UNIQUE (u_id, p_name)
);
CREATE INDEX project_that_runs ON Project (status);

CREATE TABLE NetworkApplication (
	na_id INTEGER PRIMARY KEY AUTOINCREMENT,
	na_name TEXT NOT NULL CHECK (length(na_name) <= 255),
	na_idx INTEGER NOT NULL CHECK (na_idx >= 0),
	p_id INTEGER NOT NULL REFERENCES Project ON DELETE CASCADE,
	UNIQUE (p_id, na_idx)
);

CREATE TABLE DeviceObject (
	do_id INTEGER PRIMARY KEY AUTOINCREMENT,
	dm_id INTEGER NOT NULL REFERENCES DeviceModel,
	p_id INTEGER NOT NULL REFERENCES Project ON DELETE CASCADE,
	do_idx INTEGER NOT NULL DEFAULT 0,
	d_id INTEGER REFERENCES Device ON DELETE SET NULL
);
CREATE INDEX object_of_project ON DeviceObject (p_id);
CREATE INDEX object_of_model ON DeviceObject (dm_id);
CREATE INDEX object_of_device ON DeviceObject (d_id);

CREATE TABLE DFObject (
	dfo_id INTEGER PRIMARY KEY AUTOINCREMENT,
	do_id INTEGER NOT NULL REFERENCES DeviceObject ON DELETE CASCADE,
	df_id INTEGER NOT NULL REFERENCES DeviceFeature,
	alias_name TEXT NOT NULL CHECK (length(alias_name) <= 255),
	UNIQUE (do_id, df_id)
);
CREATE INDEX dfobject_of_feature ON DFObject (df_id);

CREATE TABLE DF_Module (
	na_id INTEGER NOT NULL REFERENCES NetworkApplication ON DELETE CASCADE,
	dfo_id INTEGER NOT NULL REFERENCES DFObject ON DELETE CASCADE,
	param_i INTEGER NOT NULL CHECK (param_i >= 0),
	idf_type TEXT NOT NULL DEFAULT 'sample' CHECK (idf_type IN ('variant', 'sample')),
	fn_id INTEGER REFERENCES Function,
	min REAL NOT NULL DEFAULT 0,
	max REAL NOT NULL DEFAULT 0,
	normalization INTEGER NOT NULL DEFAULT 0 CHECK (normalization IN (0, 1)),
	color TEXT NOT NULL DEFAULT 'black' CHECK (color IN ('red', 'black')),
	PRIMARY KEY (na_id, dfo_id, param_i)
) WITHOUT ROWID;
CREATE INDEX module_of_dfobject ON DF_Module (dfo_id);
CREATE INDEX module_of_function ON DF_Module (fn_id);

CREATE TABLE MultipleJoin_Module (
	na_id INTEGER NOT NULL REFERENCES NetworkApplication ON DELETE CASCADE,
	param_i INTEGER NOT NULL CHECK (param_i >= 0),
	dfo_id INTEGER NOT NULL REFERENCES DFObject ON DELETE CASCADE,
	fn_id INTEGER REFERENCES Function,
	PRIMARY KEY (na_id, param_i),
	UNIQUE (na_id, dfo_id)
) WITHOUT ROWID;
CREATE INDEX join_of_dfobject ON MultipleJoin_Module (dfo_id);
CREATE INDEX join_of_function ON MultipleJoin_Module (fn_id);

-- What every store has.
INSERT INTO DeviceFeatureCategory (dfc_name) VALUES ('None');
INSERT INTO Unit (unit_name) VALUES ('None');
