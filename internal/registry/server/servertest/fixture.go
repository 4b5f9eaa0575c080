package servertest

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry/registrytest"
)

// images are what cases push: "image" is an OCI image, "docker" one of docker's schema
// 2, "index" and "list" have these as children, "signature" and "sbom" have "image" as subject.
var images = sync.OnceValue(func() map[string]registrytest.Image {
	linux := image.Platform{OS: "linux", Architecture: "amd64"}
	img := registrytest.Hello("image", image.TypeLayerGzip)
	docker := registrytest.Hello("docker", image.TypeDockerLayerGzip)
	index := registrytest.NewIndex([]image.Platform{linux}, []registrytest.Image{img})
	list := registrytest.NewIndex([]image.Platform{linux}, []registrytest.Image{docker})
	last := &list.Blobs[len(list.Blobs)-1]
	*last = registrytest.NewBlob(image.TypeDockerIndex, bytes.ReplaceAll(last.Data, []byte(image.TypeIndex), []byte(image.TypeDockerIndex)))
	return map[string]registrytest.Image{
		"image": img, "docker": docker, "index": index, "list": list,
		"signature": referrer(img, "application/vnd.example.signature", "signed"),
		"sbom":      referrer(img, "application/vnd.example.sbom", "listed"),
	}
})

// referrer is an artifact about img.
func referrer(img registrytest.Image, artifactType, note string) registrytest.Image {
	empty := registrytest.NewBlob("application/vnd.oci.empty.v1+json", []byte("{}"))
	subject := img.Desc()
	m := image.Manifest{MediaType: image.TypeManifest, ArtifactType: artifactType, Config: empty.Descriptor,
		Layers: []image.Descriptor{empty.Descriptor}, Subject: &subject, Annotations: map[string]string{"note": note}}
	m.SchemaVersion = 2
	data, err := image.Marshal(m)
	if err != nil {
		panic(err) // it is a constant
	}
	return registrytest.Image{Blobs: []registrytest.Blob{empty, registrytest.NewBlob(m.MediaType, data)}}
}

// fixtures are the names that cases may use in braces.
func fixtures() map[string]string {
	blob := "the content of a blob, 0123456789"
	vars := map[string]string{
		"blob": blob, "blob.digest": digest.FromString(blob).String(), "blob.size": strconv.Itoa(len(blob)),
		"blob.512":      digest.SHA512.FromString(blob).String(),
		"absent.digest": digest.FromString("never pushed").String(), "empty.digest": digest.FromString("").String(),
		"4MiB": string(bytes.Repeat([]byte(" "), 4<<20)), "deep": string(bytes.Repeat([]byte("["), 100000)),
		"session": "01234567-89ab-cdef-0123-456789abcdef",
	}
	for name, img := range images() {
		m := img.Blobs[len(img.Blobs)-1]
		vars[name] = string(m.Data)
		vars[name+".digest"], vars[name+".type"], vars[name+".size"] = m.Digest.String(), m.MediaType, strconv.FormatInt(m.Size, 10)
		vars[name+".512"] = digest.SHA512.FromBytes(m.Data).String()
		for i, b := range img.Blobs[:len(img.Blobs)-1] {
			vars[fmt.Sprint(name, ".", i)], vars[fmt.Sprint(name, ".", i, ".digest")] = string(b.Data), b.Digest.String()
		}
	}
	return vars
}

// push uploads a fixture: what it refers to, and itself under a tag, or by digest
// without one. With the tag "-" only what it refers to.
func push(t *testing.T, s step, url string) {
	t.Helper()
	img, ok := images()[s.push[0]]
	if !ok {
		t.Fatalf("%s: no fixture", s.pos)
	}
	repo, tag := url+"/v2/"+s.push[1], ""
	if len(s.push) > 2 {
		tag = s.push[2]
	}
	last := len(img.Blobs) - 1
	for i, b := range img.Blobs {
		method, target := http.MethodPost, repo+"/blobs/uploads/?digest="+b.Digest.String()
		switch {
		case i == last && tag == "-":
			return
		case i == last && tag != "":
			method, target = http.MethodPut, repo+"/manifests/"+tag
		case i == last, image.IsManifest(b.MediaType):
			method, target = http.MethodPut, repo+"/manifests/"+b.Digest.String()
		}
		req, err := http.NewRequest(method, target, bytes.NewReader(b.Data))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", b.MediaType)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusCreated {
			t.Fatalf("%s: push %s: %s", s.pos, b.MediaType, res.Status)
		}
	}
}
