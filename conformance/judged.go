package main

// judgement is what must come out of a case that the recorded BuildKit cannot judge.
type judgement struct {
	why   string
	fails bool
	files string // the names of what the image has that its base has not; expected.go says what they are like
}

// Why documentation, or the BuildKit of today, decides. Each is in docs/dockerfile.md.
const (
	parents    = "by documentation: the recorded frontend has no --parents"
	exclude    = "by documentation: the recorded frontend has no --exclude"
	heredoc    = "by documentation: the recorded frontend has no heredocs"
	exceptions = "as BuildKit of today: exceptions with wildcards hold below excluded directories"
	stubs      = "as BuildKit of today: a mount point that RUN --mount needed does not stay in the image"
	empty      = "as BuildKit of today: an excluded directory is only there for what is kept in it"
)

// judgements by the folder of the case. What they say of .dockerignore is what today's
// fsutil, BuildKit's own walk, makes of it: ignore_test.go compares the two.
var judgements = map[string]judgement{
	"add--exclude-includes-dot": {why: exclude, files: "subdir subdir/.dotfile-a.txt subdir/Dockerfile subdir/file-a.txt subdir/file-b.txt subdir/file-c.txt " +
		"subdir/subdir-b subdir/subdir-b/.dotfile-b.txt subdir/subdir-e subdir/subdir-e/file-a.txt " +
		"subdir/subdir-e/file-b.txt subdir/subdir-e/file-n.txt subdir/subdir-e/subdir-f " +
		"subdir/subdir-e/subdir-f/file-a.txt subdir/subdir-e/subdir-f/file-n.txt " +
		"subdir/subdir-e/subdir-f/file-o.txt subdir/subdir-e/subdir-f/subdir-g " +
		"subdir/subdir-e/subdir-f/subdir-g/subdir-b"},
	"add--exclude-includes-slash": {why: exclude, files: "subdir subdir/Dockerfile subdir/subdir-b subdir/subdir-b/.dotfile-b.txt subdir/subdir-c " +
		"subdir/subdir-c/file-b.txt subdir/subdir-c/file-c.txt subdir/subdir-e subdir/subdir-e/file-a.txt " +
		"subdir/subdir-e/file-b.txt subdir/subdir-e/file-n.txt subdir/subdir-e/subdir-f " +
		"subdir/subdir-e/subdir-f/file-a.txt subdir/subdir-e/subdir-f/file-n.txt " +
		"subdir/subdir-e/subdir-f/file-o.txt subdir/subdir-e/subdir-f/subdir-g " +
		"subdir/subdir-e/subdir-f/subdir-g/subdir-b"},
	"add--exclude-includes-star": {why: exclude, files: "subdir subdir/.dotfile-a.txt subdir/Dockerfile subdir/file-a.txt subdir/file-b.txt subdir/file-c.txt " +
		"subdir/subdir-b subdir/subdir-b/.dotfile-b.txt subdir/subdir-e subdir/subdir-e/file-a.txt " +
		"subdir/subdir-e/file-b.txt subdir/subdir-e/file-n.txt subdir/subdir-e/subdir-f " +
		"subdir/subdir-e/subdir-f/file-a.txt subdir/subdir-e/subdir-f/file-n.txt " +
		"subdir/subdir-e/subdir-f/file-o.txt subdir/subdir-e/subdir-f/subdir-g " +
		"subdir/subdir-e/subdir-f/subdir-g/subdir-b"},
	"copy--exclude-exception-under-source": {why: exclude, files: "app app/storage app/storage/cache app/storage/cache/cache_file app/storage/views " +
		"app/storage/views/exception"},
	"copy--exclude-includes-dot-slash": {why: exclude, files: "subdir subdir/.dotfile-a.txt subdir/Dockerfile subdir/file-a.txt subdir/file-b.txt subdir/file-c.txt " +
		"subdir/subdir-b subdir/subdir-b/.dotfile-b.txt subdir/subdir-c subdir/subdir-c/file-b.txt " +
		"subdir/subdir-c/file-c.txt subdir/subdir-e subdir/subdir-e/file-a.txt subdir/subdir-e/file-b.txt " +
		"subdir/subdir-e/file-n.txt subdir/subdir-e/subdir-f subdir/subdir-e/subdir-f/file-a.txt " +
		"subdir/subdir-e/subdir-f/file-n.txt subdir/subdir-e/subdir-f/file-o.txt " +
		"subdir/subdir-e/subdir-f/subdir-g subdir/subdir-e/subdir-f/subdir-g/subdir-b"},
	"copy--exclude-includes-slash": {why: exclude, files: "subdir subdir/.dotfile-a.txt subdir/Dockerfile subdir/file-a.txt subdir/file-b.txt subdir/file-c.txt " +
		"subdir/subdir-b subdir/subdir-b/.dotfile-b.txt subdir/subdir-c subdir/subdir-c/file-b.txt " +
		"subdir/subdir-c/file-c.txt subdir/subdir-e subdir/subdir-e/file-a.txt subdir/subdir-e/file-b.txt " +
		"subdir/subdir-e/file-n.txt subdir/subdir-e/subdir-f subdir/subdir-e/subdir-f/file-a.txt " +
		"subdir/subdir-e/subdir-f/file-n.txt subdir/subdir-e/subdir-f/file-o.txt " +
		"subdir/subdir-e/subdir-f/subdir-g subdir/subdir-e/subdir-f/subdir-g/subdir-b"},
	"copy--exclude-includes-subdir-slash": {why: exclude, files: "subdir subdir/.dotfile-a.txt subdir/Dockerfile subdir/file-a.txt subdir/file-b.txt subdir/file-c.txt " +
		"subdir/subdir-b subdir/subdir-b/.dotfile-b.txt subdir/subdir-e subdir/subdir-e/file-a.txt " +
		"subdir/subdir-e/file-b.txt subdir/subdir-e/file-n.txt subdir/subdir-e/subdir-f " +
		"subdir/subdir-e/subdir-f/file-a.txt subdir/subdir-e/subdir-f/file-n.txt " +
		"subdir/subdir-e/subdir-f/file-o.txt subdir/subdir-e/subdir-f/subdir-g " +
		"subdir/subdir-e/subdir-f/subdir-g/subdir-b"},
	"copy--exclude-subdir-under-source":           {why: exclude, files: "app app/storage app/storage/cache app/storage/cache/cache_file"},
	"copy--form-and--exclude-subdir-under-source": {why: exclude, files: "app app/storage app/storage/cache app/storage/cache/cache_file"},
	"copy--parents": {why: parents, files: "no_parents no_parents/a.txt parents parents/x parents/x/a.txt parents/y parents/y/a.txt"},
	"copy--parents-all-directories": {why: parents, files: "parents parents/Dockerfile parents/x parents/x/a.txt parents/x/y parents/x/y/a.txt parents/x/y/b.txt " +
		"parents/x/z parents/x/z/a.txt parents/x/z/b.txt parents/y parents/y/a.txt parents/y/b.txt"},
	"copy--parents-dir-with-links": {why: parents, files: "parents parents/x parents/x/a.txt parents/x/y parents/x/y/a.txt parents/x/y/b.txt parents/x/z " +
		"parents/x/z/a.txt parents/x/z/b.txt parents/x/z/hardlink-a.txt parents/x/z/hardlink-y-b.txt " +
		"parents/x/z/symlink-b.txt parents_dir_point parents_dir_point/z parents_dir_point/z/a.txt " +
		"parents_dir_point/z/b.txt parents_dir_point/z/hardlink-a.txt parents_dir_point/z/hardlink-y-b.txt " +
		"parents_dir_point/z/symlink-b.txt"},
	"copy--parents-directories": {why: parents, files: "parents parents/x parents/x/a.txt parents/x/y parents/x/y/a.txt parents/x/y/b.txt parents/x/z " +
		"parents/x/z/a.txt parents/x/z/b.txt"},
	"copy--parents-directory-limit-parents-unknown-count-parent-directories": {why: parents, files: "parents parents/a.txt parents/y parents/y/a.txt parents/y/b.txt parents/z parents/z/a.txt " +
		"parents/z/b.txt"},
	"copy--parents-directory-with-parent-directory": {why: parents, files: "parents parents/x parents/x/y parents/x/y/a.txt parents/x/y/b.txt"},
	"copy--parents-limit-parent-directories":        {why: parents, files: "parents parents/y parents/y/a.txt parents/y/b.txt"},
	"copy--parents-limit-parent-directories-1":      {why: parents, files: "parents parents/a.txt parents/b.txt"},
	"copy--parents-limit-parents-unknown-count-parent-directories": {why: parents, files: "parents parents/a.txt parents/y parents/y/a.txt parents/y/b.txt parents/z parents/z/a.txt " +
		"parents/z/b.txt"},
	"copy--parents-path-with-star": {why: parents, files: "parents parents/x parents/x/y parents/x/y/a.txt parents/x/z parents/x/z/a.txt parents/y " +
		"parents/y/b.txt"},
	"copy--parents-two-parent-directories": {why: parents, files: "parents parents/x parents/x/y parents/x/y/a.txt parents/x/y/b.txt"},
	"copy--parents-unknown-count-parent-directories": {why: parents, files: "parents parents/x parents/x/a.txt parents/x/y parents/x/y/a.txt parents/x/y/b.txt parents/x/z " +
		"parents/x/z/a.txt parents/x/z/b.txt"},
	"copy-integration1":                         {why: exceptions, files: "sub1.txt subdir subdir/sub1.txt test2.txt"},
	"dockerignore-allowlist-subsubdir-nofile":   {why: empty, files: "file"},
	"dockerignore-allowlist-subsubdir-nosubdir": {why: empty, files: "file"},
	"dockerignore-exceptions-skip":              {why: exceptions, files: ".dockerignore Dockerfile volume volume/data volume/data/oneline.txt"},
	"dockerignore-exceptions-weirdness-1":       {why: exceptions, files: "newdir newdir/.dockerignore newdir/Dockerfile newdir/subdir newdir/subdir/sub1.txt"},
	"dockerignore-exclude-deep-subdir-dot-2": {why: exceptions, files: "subdir subdir/.dockerignore subdir/.dotfile-a.txt subdir/Dockerfile subdir/file-a.txt " +
		"subdir/file-b.txt subdir/file-c.txt subdir/subdir-b subdir/subdir-b/.dotfile-b.txt subdir/subdir-c " +
		"subdir/subdir-c/file-b.txt subdir/subdir-c/file-c.txt subdir/subdir-e subdir/subdir-e/file-a.txt " +
		"subdir/subdir-e/file-b.txt subdir/subdir-e/file-n.txt subdir/subdir-e/subdir-f " +
		"subdir/subdir-e/subdir-f/subdir-g subdir/subdir-e/subdir-f/subdir-g/subdir-b"},
	"dockerignore-exclude-deep-subdir-star-2": {why: exceptions, files: "subdir subdir/.dockerignore subdir/.dotfile-a.txt subdir/.dotfile-b.txt subdir/Dockerfile " +
		"subdir/file-a.txt subdir/file-b.txt subdir/file-c.txt subdir/file-n.txt subdir/subdir-f " +
		"subdir/subdir-f/subdir-g subdir/subdir-f/subdir-g/subdir-b"},
	"dockerignore-exclude-kind-of-deep-subdir-dot": {why: exceptions, files: "subdir subdir/.dockerignore subdir/.dotfile-a.txt subdir/Dockerfile subdir/file-a.txt " +
		"subdir/file-b.txt subdir/file-c.txt subdir/subdir-b subdir/subdir-b/.dotfile-b.txt subdir/subdir-c " +
		"subdir/subdir-c/file-b.txt subdir/subdir-c/file-c.txt subdir/subdir-e subdir/subdir-e/subdir-f " +
		"subdir/subdir-e/subdir-f/file-a.txt subdir/subdir-e/subdir-f/file-n.txt " +
		"subdir/subdir-e/subdir-f/file-o.txt subdir/subdir-e/subdir-f/subdir-g " +
		"subdir/subdir-e/subdir-f/subdir-g/subdir-b"},
	"dockerignore-exclude-kind-of-deep-subdir-star": {why: exceptions, files: "subdir subdir/.dockerignore subdir/.dotfile-a.txt subdir/.dotfile-b.txt subdir/Dockerfile " +
		"subdir/file-a.txt subdir/file-b.txt subdir/file-c.txt subdir/subdir-f subdir/subdir-f/file-a.txt " +
		"subdir/subdir-f/file-n.txt subdir/subdir-f/file-o.txt subdir/subdir-f/subdir-g " +
		"subdir/subdir-f/subdir-g/subdir-b"},
	"heredoc-copy": {why: heredoc, files: "test test/file test/humans.txt test/robots.txt test2 test2/humans.txt test2/image_file " +
		"test2/robots.txt"},
	"heredoc-quoting": {why: heredoc, files: "add-quoted1.txt add-quoted2.txt add-quoted3.txt add-quoted4.txt add-unquoted1.txt add-unquoted2.txt " +
		"add-unquoted3.txt add-unquoted4.txt copy-quoted1.txt copy-quoted2.txt copy-quoted3.txt " +
		"copy-quoted4.txt copy-unquoted1.txt copy-unquoted2.txt copy-unquoted3.txt copy-unquoted4.txt " +
		"run-argA=argvA.quoted1.txt run-argA=argvA.quoted2.txt run-argA=argvA.quoted3.txt " +
		"run-argA=argvA.unquoted1.txt run-argA=argvA.unquoted2.txt run-argA=argvA.unquoted3.txt " +
		"run-argA=argvA2.quoted4.txt run-argA=argvA2.unquoted4.txt run-varA=valueA.quoted1.txt " +
		"run-varA=valueA.quoted2.txt run-varA=valueA.unquoted1.txt run-varA=valueA.unquoted2.txt " +
		"run-varA=valueA2.quoted3.txt run-varA=valueA2.quoted4.txt run-varA=valueA2.unquoted3.txt " +
		"run-varA=valueA2.unquoted4.txt run-varB=valueB.quoted1.txt run-varB=valueB.quoted2.txt " +
		"run-varB=valueB.quoted3.txt run-varB=valueB.quoted4.txt run-varB=valueB.unquoted1.txt " +
		"run-varB=valueB.unquoted2.txt run-varB=valueB.unquoted3.txt run-varB=valueB.unquoted4.txt"},
	"dockerignore-allowlist-subdir-nofile-dir":  {why: empty, fails: true},
	"dockerignore-allowlist-subdir-nofile-file": {why: empty, fails: true},
	"multistage-copyback":                       {why: stubs, files: "base2 base2/1.txt"},
	"mount-cache-by-ownership":                  {why: stubs, files: "results results/0 results/0+10 results/0+10/10.txt results/0/0.txt results/10 results/10/10.txt"},
}
