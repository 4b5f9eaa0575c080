package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// ageCache is "age DURATION": everything in the build cache of the script's store was used that much earlier, and its last trimming
// was, too.
func ageCache(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: age DURATION")
	}
	by, err := time.ParseDuration(args[0])
	ts.Check(err)
	root := ts.Getenv("NACRE_ROOT")
	db, err := sql.Open("sqlite", filepath.Join(root, "nacre.db"))
	ts.Check(err)
	defer db.Close()
	_, err = db.Exec("UPDATE cache SET used = used - ?", by.Nanoseconds())
	ts.Check(err)
	for _, pattern := range []string{"caches/*/record", "contexts/*", "trimmed"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		ts.Check(err)
		for _, f := range files {
			st, err := os.Stat(f)
			ts.Check(err)
			then := st.ModTime().Add(-by)
			ts.Check(os.Chtimes(f, then, then))
		}
	}
}
