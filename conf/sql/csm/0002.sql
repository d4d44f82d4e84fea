-- requests of the API that were taken up lately: a broker that was killed repeats some of them
CREATE TABLE request (
	digest TEXT PRIMARY KEY,
	at     DOUBLE PRECISION NOT NULL
);
