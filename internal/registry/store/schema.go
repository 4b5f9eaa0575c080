package store

// formatVersion is PRAGMA user_version of nacre.db. It rises with every change
// that an older nacre would get wrong.
const formatVersion = 6

// formats are the steps from each format to the next, from nothing to the first. docs/formats.md says
// what each column means.
var formats = [formatVersion]string{format1, format2, format3, format4, format5, format6}

// format6 adds where the images of an index were found.
const format6 = `
CREATE TABLE origin (
	digest TEXT NOT NULL,
	ref    TEXT NOT NULL,
	PRIMARY KEY (digest, ref)
) WITHOUT ROWID;
`

// format5 adds containers.
const format5 = `
CREATE TABLE container (
	id      TEXT PRIMARY KEY,
	name    TEXT NOT NULL UNIQUE,
	image   TEXT NOT NULL,
	created INTEGER NOT NULL,
	doomed  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX container_image ON container (image);
CREATE INDEX container_doomed ON container (doomed) WHERE doomed = 1;
`

// format4 adds notes beside cache records. One whose record is gone loses its data and stays a while, to
// say that there was one.
const format4 = `
CREATE TABLE note (
	key  BLOB NOT NULL UNIQUE,
	slot TEXT NOT NULL,
	data BLOB
);
CREATE INDEX note_slot ON note (slot) WHERE data IS NOT NULL;
CREATE INDEX note_gone ON note (data) WHERE data IS NULL;
CREATE TRIGGER cache_gone AFTER DELETE ON cache BEGIN
	UPDATE note SET data = NULL WHERE key = old.key;
END;
`

const format2 = `
CREATE TABLE form (
	layer       TEXT NOT NULL,
	how         TEXT NOT NULL,
	digest      TEXT NOT NULL,
	media       TEXT NOT NULL,
	size        INTEGER NOT NULL,
	diffid      TEXT NOT NULL,
	annotations TEXT NOT NULL,
	PRIMARY KEY (layer, how)
) WITHOUT ROWID;
CREATE INDEX form_digest ON form (digest);

CREATE TABLE remade (
	src    TEXT NOT NULL,
	how    TEXT NOT NULL,
	digest TEXT NOT NULL,
	config TEXT NOT NULL,
	PRIMARY KEY (src, how)
) WITHOUT ROWID;
CREATE INDEX remade_digest ON remade (digest);
CREATE INDEX remade_config ON remade (config) WHERE config <> '';
`

// format3 adds repositories: what was pushed, and to where.
const format3 = `
CREATE TABLE part (
	repo   TEXT NOT NULL,
	digest TEXT NOT NULL,
	media  TEXT NOT NULL,
	size   INTEGER NOT NULL,
	kept   INTEGER NOT NULL,
	added  INTEGER NOT NULL,
	until  INTEGER NOT NULL,
	PRIMARY KEY (repo, digest)
) WITHOUT ROWID;
CREATE INDEX part_digest ON part (digest);

CREATE TABLE claim (
	diffid TEXT NOT NULL,
	blob   TEXT NOT NULL,
	PRIMARY KEY (diffid, blob)
) WITHOUT ROWID;
CREATE INDEX claim_blob ON claim (blob);

CREATE TABLE referrer (
	subject     TEXT NOT NULL,
	digest      TEXT NOT NULL,
	media       TEXT NOT NULL,
	size        INTEGER NOT NULL,
	type        TEXT NOT NULL,
	annotations TEXT NOT NULL,
	PRIMARY KEY (subject, digest)
) WITHOUT ROWID;
CREATE INDEX referrer_digest ON referrer (digest);

ALTER TABLE name ADD COLUMN pulled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE name ADD COLUMN pushed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX name_made ON name (repo) WHERE pushed = 0;
`

const format1 = `
CREATE TABLE blob (
	digest TEXT PRIMARY KEY,
	media  TEXT NOT NULL,
	size   INTEGER NOT NULL,
	layer  TEXT,
	added  INTEGER NOT NULL,
	boot   TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX blob_layer ON blob (layer) WHERE layer IS NOT NULL;

CREATE TABLE layer (
	diffid  TEXT PRIMARY KEY,
	size    INTEGER NOT NULL,
	content TEXT NOT NULL,
	entries INTEGER NOT NULL,
	files   INTEGER NOT NULL,
	added   INTEGER NOT NULL,
	boot    TEXT NOT NULL,
	tree    TEXT
) WITHOUT ROWID;

CREATE TABLE edge (
	src TEXT NOT NULL,
	dst TEXT NOT NULL,
	PRIMARY KEY (src, dst)
) WITHOUT ROWID;
CREATE INDEX edge_dst ON edge (dst);

CREATE TABLE image (
	digest   TEXT PRIMARY KEY,
	media    TEXT NOT NULL,
	size     INTEGER NOT NULL,
	id       TEXT NOT NULL,
	created  TEXT NOT NULL,
	bytes    INTEGER NOT NULL,
	platform TEXT NOT NULL,
	labels   TEXT NOT NULL,
	parent   TEXT NOT NULL,
	added    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX image_id ON image (id);
CREATE INDEX image_parent ON image (parent) WHERE parent <> '';

CREATE TABLE name (
	repo   TEXT NOT NULL,
	tag    TEXT NOT NULL,
	digest TEXT NOT NULL,
	target TEXT NOT NULL,
	added  INTEGER NOT NULL,
	PRIMARY KEY (repo, tag, digest)
) WITHOUT ROWID;
CREATE INDEX name_target ON name (target);

CREATE TABLE cache (
	key     BLOB NOT NULL UNIQUE,
	slot    TEXT NOT NULL,
	fields  BLOB NOT NULL,
	layer   TEXT NOT NULL,
	content TEXT NOT NULL,
	created TEXT NOT NULL,
	size    INTEGER NOT NULL,
	added   INTEGER NOT NULL,
	used    INTEGER NOT NULL
);
CREATE INDEX cache_slot ON cache (slot, added);
CREATE INDEX cache_layer ON cache (layer);

CREATE TABLE lease (
	id      TEXT PRIMARY KEY,
	owner   TEXT NOT NULL,
	holder  TEXT NOT NULL,
	started INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE pin (
	digest TEXT NOT NULL,
	lease  TEXT NOT NULL,
	PRIMARY KEY (digest, lease)
) WITHOUT ROWID;
CREATE INDEX pin_lease ON pin (lease);
`
