package main

import (
	"cmp"
	"errors"
	"os"
	"strconv"
	"strings"

	"nacre/internal/registry/s3"
)

// s3Attributes are those of type=s3, in BuildKit's words, with the variables of Amazon's tools that stand in for them.
var s3Attributes = []struct {
	key    string
	env    []string
	set    func(o *s3.Options, value string) error
	secret bool
}{
	{key: "bucket", env: []string{"AWS_BUCKET"}, set: func(o *s3.Options, v string) error { o.Bucket = v; return nil }},
	{key: "region", env: []string{"AWS_REGION", "AWS_DEFAULT_REGION"}, set: func(o *s3.Options, v string) error { o.Region = v; return nil }},
	{key: "prefix", set: func(o *s3.Options, v string) error { o.Prefix = v; return nil }},
	{key: "endpoint_url", env: []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"}, set: func(o *s3.Options, v string) error { o.Endpoint = v; return nil }},
	{key: "use_path_style", set: func(o *s3.Options, v string) (err error) { o.PathStyle, err = strconv.ParseBool(v); return err }},
	{key: "access_key_id", env: []string{"AWS_ACCESS_KEY_ID"}, set: func(o *s3.Options, v string) error { o.AccessKey = v; return nil }},
	{key: "secret_access_key", env: []string{"AWS_SECRET_ACCESS_KEY"}, set: func(o *s3.Options, v string) error { o.SecretKey = v; return nil }, secret: true},
	{key: "session_token", env: []string{"AWS_SESSION_TOKEN"}, set: func(o *s3.Options, v string) error { o.SessionToken = v; return nil }, secret: true},
}

func knownS3() string {
	names := make([]string, len(s3Attributes))
	for i, a := range s3Attributes {
		names[i] = a.key
	}
	return strings.Join(append(names, "name"), ", ")
}

// setS3 reads an attribute of type=s3; false: it is none.
func (e *cacheEntry) setS3(key, value string) (bool, error) {
	for _, a := range s3Attributes {
		if a.key == key {
			if e.given == nil {
				e.given = map[string]bool{}
			}
			e.given[key] = true
			return true, a.set(&e.s3, value)
		}
	}
	if key == "name" {
		e.names = strings.FieldsFunc(value, func(r rune) bool { return r == ';' })
		return true, nil
	}
	return false, nil
}

// checkS3 takes from the environment what is not given. Keys that are given are never completed by those of the environment.
func (e *cacheEntry) checkS3() error {
	keys := e.given["access_key_id"] || e.given["secret_access_key"] || e.given["session_token"]
	for _, a := range s3Attributes {
		credential := a.secret || a.key == "access_key_id"
		if e.given[a.key] || credential && keys {
			continue
		}
		var value string
		for _, name := range a.env {
			value = cmp.Or(value, os.Getenv(name))
		}
		if err := a.set(&e.s3, value); value != "" && err != nil {
			return err
		}
	}
	if e.s3.Bucket == "" {
		return errors.New("bucket is missing: where the cache is (or AWS_BUCKET)")
	}
	if e.dir != "" || e.ref.Repo != "" {
		return errors.New("of a bucket there is no folder and no ref: want bucket, prefix and name")
	}
	if len(e.names) == 0 {
		e.names = []string{"nacre"}
	}
	_, err := s3.New(e.s3)
	return err
}

// hideSecrets is s, as given, for messages.
func hideSecrets(s string) string {
	for _, a := range s3Attributes {
		if !a.secret {
			continue
		}
		if before, rest, ok := strings.Cut(s, a.key+"="); ok {
			_, after, more := strings.Cut(rest, ",")
			if s = before + a.key + "=***"; more {
				s += "," + after
			}
		}
	}
	return s
}
