package server

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
)

const (
	testDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	testUpload = "01234567-89ab-cdef-0123-456789abcdef"
)

var parseCases = []struct {
	method, target string
	want           Request
}{
	{"GET", "/v2/", Request{Kind: Ping, N: -1}},
	{"GET", "/v2", Request{Kind: Ping, N: -1}},
	{"HEAD", "/v2/", Request{Kind: Ping, N: -1}},
	{"GET", "/v2/_catalog?n=3&last=a/b", Request{Kind: Catalog, N: 3, Last: "a/b"}},
	{"GET", "/v2/a/tags/list", Request{Kind: ListTags, Repo: "a", N: -1}},
	{"GET", "/v2/a/tags/list/tags/list?n=0", Request{Kind: ListTags, Repo: "a/tags/list"}},
	{"GET", "/v2/a/referrers/" + testDigest + "?artifactType=x&artifactType=", Request{Kind: ListReferrers, Repo: "a", Digest: testDigest, Filters: []string{"x"}, N: -1}},
	{"GET", "/v2/a/b-c__d.e/manifests/1.0_-x", Request{Kind: GetManifest, Repo: "a/b-c__d.e", Tag: "1.0_-x", N: -1}},
	{"HEAD", "/v2/manifests/manifests/manifests", Request{Kind: HeadManifest, Repo: "manifests", Tag: "manifests", N: -1}},
	{"PUT", "/v2/a/manifests/" + testDigest + "?tag=x&tag=y", Request{Kind: PutManifest, Repo: "a", Digest: testDigest, Tags: []string{"x", "y"}, N: -1}},
	{"DELETE", "/v2/a/manifests/latest", Request{Kind: DeleteManifest, Repo: "a", Tag: "latest", N: -1}},
	{"GET", "/v2/a/blobs/" + testDigest, Request{Kind: GetBlob, Repo: "a", Digest: testDigest, N: -1}},
	{"GET", "/v2/a/blobs/sha512:" + strings.Repeat("ab", 64), Request{Kind: GetBlob, Repo: "a", Digest: "sha512:" + "abababababababababababababababababababababababababababababababababababababababababababababababababababababababababababababababab", N: -1}},
	{"HEAD", "/v2/a/blobs/" + testDigest, Request{Kind: HeadBlob, Repo: "a", Digest: testDigest, N: -1}},
	{"DELETE", "/v2/a/blobs/" + testDigest, Request{Kind: DeleteBlob, Repo: "a", Digest: testDigest, N: -1}},
	{"POST", "/v2/a/blobs/uploads/", Request{Kind: StartUpload, Repo: "a", N: -1}},
	{"POST", "/v2/a/blobs/uploads", Request{Kind: StartUpload, Repo: "a", N: -1}},
	{"POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", Request{Kind: StartUpload, Repo: "a", Algorithm: "sha512", N: -1}},
	{"POST", "/v2/a/blobs/uploads/blobs/uploads/", Request{Kind: StartUpload, Repo: "a/blobs/uploads", N: -1}},
	{"POST", "/v2/a/blobs/uploads/?digest=" + testDigest, Request{Kind: PostBlob, Repo: "a", Digest: testDigest, N: -1}},
	{"POST", "/v2/a/blobs/uploads/?mount=" + testDigest + "&from=b/c", Request{Kind: MountBlob, Repo: "a", Digest: testDigest, From: "b/c", N: -1}},
	{"POST", "/v2/a/blobs/uploads/?mount=" + testDigest, Request{Kind: MountBlob, Repo: "a", Digest: testDigest, N: -1}},
	{"GET", "/v2/a/blobs/uploads/" + testUpload, Request{Kind: StatUpload, Repo: "a", Session: testUpload, N: -1}},
	{"PATCH", "/v2/a/blobs/uploads/" + testUpload, Request{Kind: AppendUpload, Repo: "a", Session: testUpload, N: -1}},
	{"PUT", "/v2/a/blobs/uploads/" + testUpload + "?digest=" + testDigest, Request{Kind: FinishUpload, Repo: "a", Session: testUpload, Digest: testDigest, N: -1}},
	{"DELETE", "/v2/a/blobs/uploads/" + testUpload, Request{Kind: CancelUpload, Repo: "a", Session: testUpload, N: -1}},
}

func TestParse(t *testing.T) {
	seen := map[Kind]bool{}
	for _, c := range parseCases {
		u, err := url.ParseRequestURI(c.target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(c.method, u)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s: %+v, %v; want %+v", c.method, c.target, got, err, c.want)
		}
		seen[got.Kind] = true
	}
	for k := range kinds {
		if !seen[k] {
			t.Errorf("no case parses to %s", k)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("a", 300)
	for _, c := range []struct {
		method, target string
		code           Code
		status         int
	}{
		{"GET", "/", CodeUnsupported, 404},
		{"GET", "/v1/", CodeUnsupported, 404},
		{"GET", "/v2/a", CodeUnsupported, 404},
		{"GET", "/v2/a/b/c", CodeUnsupported, 404},
		{"GET", "/v2//", CodeUnsupported, 404},
		{"POST", "/v2/", CodeUnsupported, 405},
		{"PATCH", "/v2/a/manifests/x", CodeUnsupported, 405},
		{"POST", "/v2/a/tags/list", CodeUnsupported, 405},
		{"GET", "/v2/a/blobs/uploads/", CodeUnsupported, 405},
		{"BREW", "/v2/a/blobs/uploads/" + testUpload, CodeUnsupported, 405},
		{"GET", "/v2/tags/list", CodeNameInvalid, 400},
		{"GET", "/v2/A/tags/list", CodeNameInvalid, 400},
		{"GET", "/v2/../tags/list", CodeNameInvalid, 400},
		{"GET", "/v2/a/../b/tags/list", CodeNameInvalid, 400},
		{"GET", "/v2/a//b/tags/list", CodeNameInvalid, 400},
		{"GET", "/v2/a%2Fb/tags/list", CodeNameInvalid, 400},
		{"GET", "/v2/a%2fb/manifests/x", CodeNameInvalid, 400},
		{"GET", "/v2/a%00/tags/list", CodeNameInvalid, 400},
		{"GET", "/v2/a./manifests/x", CodeNameInvalid, 400},
		{"GET", "/v2/-a/manifests/x", CodeNameInvalid, 400},
		{"GET", "/v2/a_.b/manifests/x", CodeNameInvalid, 400},
		{"GET", "/v2/a___b/manifests/x", CodeNameInvalid, 400},
		{"GET", "/v2/" + long + "/manifests/x", CodeNameInvalid, 400},
		{"GET", "/v2/a/manifests/", CodeManifestUnknown, 404},
		{"GET", "/v2/a/manifests/.x", CodeManifestUnknown, 404},
		{"HEAD", "/v2/a/manifests/.x", CodeManifestUnknown, 404},
		{"PUT", "/v2/a/manifests/.x", CodeManifestInvalid, 400},
		{"GET", "/v2/a/manifests/%C3%A4", CodeManifestUnknown, 404},
		{"GET", "/v2/a/manifests/" + long[:129], CodeManifestUnknown, 404},
		{"GET", "/v2/a/manifests/sha256:baddigeststring", CodeDigestInvalid, 400},
		{"GET", "/v2/a/manifests/md5:d41d8cd98f00b204e9800998ecf8427e", CodeDigestInvalid, 400},
		{"GET", "/v2/a/blobs/latest", CodeDigestInvalid, 400},
		{"GET", "/v2/a/blobs/" + strings.ToUpper(testDigest), CodeDigestInvalid, 400},
		{"GET", "/v2/a/blobs/sha256:../../../../../../../../../../../../../../../../../../../etc/passwd", CodeUnsupported, 404},
		{"GET", "/v2/a/referrers/x", CodeDigestInvalid, 400},
		{"GET", "/v2/a/tags/list?n=-1", CodeUnsupported, 400},
		{"GET", "/v2/a/tags/list?n=x", CodeUnsupported, 400},
		{"GET", "/v2/a/tags/list?n=99999999999999999999", CodeUnsupported, 400},
		{"GET", "/v2/a/tags/list?last=%zz", CodeUnsupported, 400},
		{"POST", "/v2/a/blobs/uploads/?digest=x", CodeDigestInvalid, 400},
		{"POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", CodeDigestInvalid, 400},
		{"POST", "/v2/a/blobs/uploads/?mount=x&from=b", CodeDigestInvalid, 400},
		{"POST", "/v2/a/blobs/uploads/?mount=" + testDigest + "&from=../b", CodeNameInvalid, 400},
		{"GET", "/v2/a/blobs/uploads/x", CodeUploadUnknown, 404},
		{"GET", "/v2/a/blobs/uploads/..", CodeUploadUnknown, 404},
		{"PUT", "/v2/a/blobs/uploads/" + testUpload, CodeDigestInvalid, 400},
		{"PUT", "/v2/a/manifests/" + testDigest + "?tag=../x", CodeManifestInvalid, 400},
		{"PUT", "/v2/a/manifests/" + testDigest + "?tag=a" + strings.Repeat("&tag=a", 100), CodeUnsupported, 414},
	} {
		u, err := url.ParseRequestURI(c.target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(c.method, u)
		if err == nil {
			t.Errorf("%s %s: %+v", c.method, c.target, got)
			continue
		}
		e := refusal(got.Kind, err)
		status := e.Status
		if status == 0 {
			status = e.Code.status()
		}
		if e.Code != c.code || status != c.status {
			t.Errorf("%s %s: %d %v; want %d %s", c.method, c.target, status, e, c.status, c.code)
		}
	}
}

// FuzzParse checks that what Parse accepts has no hostile part, and that Construct makes a
// request of it that means the same.
func FuzzParse(f *testing.F) {
	for _, c := range parseCases {
		f.Add(c.method, c.target)
	}
	f.Add("GET", "/v2/a/../b/manifests/x%2F?n=1&last=%00&tag=x")
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r, err := Parse(method, u)
		if err != nil {
			return
		}
		for _, name := range []string{r.Repo, r.From} {
			for part := range strings.SplitSeq(name, "/") {
				if name != "" && (part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\\%:@")) {
					t.Fatalf("%q has the repository %q", target, name)
				}
			}
		}
		if r.Tag != "" && r.Digest != "" || strings.ContainsAny(r.Tag+string(r.Digest)+r.Session, "/\x00\\") {
			t.Fatalf("%q has the reference %q %q %q", target, r.Tag, r.Digest, r.Session)
		}
		method, target = Construct(r)
		if u, err = url.ParseRequestURI(target); err != nil {
			t.Fatalf("%+v becomes %q: %v", r, target, err)
		}
		again, err := Parse(method, u)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v becomes %s %s, which is %+v, %v", r, method, target, again, err)
		}
	})
}

func TestParseChunk(t *testing.T) {
	for _, c := range []struct {
		header string
		length int64
		want   chunk
		ok     bool
	}{
		{"0-0", 1, chunk{true, 0, 1}, true},
		{"0-1023", 1024, chunk{true, 0, 1024}, true},
		{"1024-2047", -1, chunk{true, 1024, 1024}, true},
		{"bytes 5-9/20", 5, chunk{true, 5, 5}, true},
		{"bytes=5-9", 5, chunk{true, 5, 5}, true},
		{"0-1023", 1023, chunk{}, false},
		{"5-4", 0, chunk{}, false},
		{"-5", 5, chunk{}, false},
		{"5-", 5, chunk{}, false},
		{"", 5, chunk{}, false},
		{"a-b", 5, chunk{}, false},
		{"+0-4", 5, chunk{}, false},
		{"0--4", 5, chunk{}, false},
		{"0-9223372036854775807", -1, chunk{}, false},
		{"9223372036854775806-9223372036854775806", 1, chunk{true, 9223372036854775806, 1}, true},
		{"99999999999999999999-99999999999999999999", -1, chunk{}, false},
	} {
		got, err := parseChunk([]string{c.header}, c.length)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q of %d: %+v, %v", c.header, c.length, got, err)
		}
	}
}

func FuzzParseChunk(f *testing.F) {
	f.Add("0-1023", int64(1024))
	f.Add("bytes 0-9223372036854775807/*", int64(-1))
	f.Fuzz(func(t *testing.T, header string, length int64) {
		c, err := parseChunk([]string{header}, length)
		if err == nil && (!c.ranged || c.first < 0 || c.length < 1 || c.first+(c.length-1) < c.first || length >= 0 && c.length != length) {
			t.Fatalf("%q of %d: %+v", header, length, c)
		}
	})
}
