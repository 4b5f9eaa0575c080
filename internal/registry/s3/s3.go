// Package s3 keeps images as objects of a bucket of Amazon S3, or of any server that speaks its protocol, as a registry
// to read from and to write to: what a cache of builds needs. It lists nothing and deletes nothing; a bucket has rules of
// its own for what is old.
//
// Content is in PREFIXblobs/sha256/HEX, each object whole or not there. PREFIXmanifests/NAME is the manifest or index of that
// name: the tag, or where that is empty "latest". Repositories do not matter. Signatures are made by Amazon's own library;
// the three requests that are needed are not worth the rest of it, which every start of the program would pay for.
package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"nacre/internal/registry"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Options say where the bucket is.
type Options struct {
	Bucket string
	Region string // such as eu-central-1; empty is us-east-1
	Prefix string // of the names of all objects
	// Endpoint is the URL of the server; empty: Amazon's of the region.
	Endpoint string
	// PathStyle has the bucket in the path of URLs, and not in the name of the host.
	PathStyle bool
	// Credentials; without an AccessKey requests are not signed, which suffices for buckets that are public.
	AccessKey, SecretKey, SessionToken string
	Client                             *http.Client // nil: http.DefaultClient
}

// Bucket is a registry.Reader and a registry.Writer.
type Bucket struct {
	o      Options
	base   *url.URL // of the bucket, ending with a slash
	signer *v4.Signer
	wait   func(int) time.Duration // before another attempt
}

// New returns the registry in a bucket. Nothing is asked of the server yet. Errors: registry.ErrInvalid.
func New(o Options) (*Bucket, error) {
	if o.Bucket == "" || strings.ContainsAny(o.Bucket, "/?#@:\\ ") {
		return nil, fmt.Errorf("%w: bucket %q", registry.ErrInvalid, o.Bucket)
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Endpoint == "" {
		o.Endpoint = "https://s3." + o.Region + ".amazonaws.com"
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		return nil, errors.New("of the access key and the secret key one is missing")
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%w: endpoint %q: want https://HOST", registry.ErrInvalid, o.Endpoint)
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/"
	if o.PathStyle {
		u.Path += o.Bucket + "/"
	} else {
		u.Host = o.Bucket + "." + u.Host
	}
	return &Bucket{o: o, base: u, signer: v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }), wait: pause}, nil
}

func (b *Bucket) credentials() aws.Credentials {
	return aws.Credentials{AccessKeyID: b.o.AccessKey, SecretAccessKey: b.o.SecretKey, SessionToken: b.o.SessionToken}
}

func (b *Bucket) blobKey(d registry.Descriptor) string {
	return b.o.Prefix + "blobs/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
}

func (b *Bucket) nameKey(ref registry.Ref) string {
	name := ref.Tag
	if name == "" {
		name = "latest"
	}
	return b.o.Prefix + "manifests/" + name
}
