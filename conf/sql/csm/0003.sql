-- version 3: requests of the API that were taken up lately, of which a broker that was killed repeats some
CREATE TABLE request (
	digest TEXT PRIMARY KEY,
	at     DOUBLE PRECISION NOT NULL
);
