package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDocumented holds docs/serve.md to the keys: each is there, and the example is valid.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "serve.md"))
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)<!-- whole example -->\n```yaml\n(.*?)```").FindSubmatch(doc)
	if example == nil {
		t.Fatal("docs/serve.md has no whole example")
	}
	c, lines, problems := parse(example[1])
	if problems = append(problems, c.check(lines)...); len(problems) > 0 {
		t.Errorf("the example is not valid:\n%v", problems)
	}
	shown := map[string]bool{}
	for at := range lines {
		shown[regexp.MustCompile(`\[\d+\]`).ReplaceAllString(at, "[]")] = true
	}
	for key := range allKeys(reflect.TypeFor[Config](), "") {
		if !strings.Contains(string(doc), "`"+key+"`") {
			t.Errorf("docs/serve.md does not explain `%s`", key)
		}
		if !shown[key] && !strings.HasPrefix(key, "auth.external") && key != "webhooks[].secret" { // they exclude others
			t.Errorf("the example does not show %s", key)
		}
	}
}

// allKeys lists "auth.rules[].allow".
func allKeys(typ reflect.Type, path string) map[string]bool {
	keys := map[string]bool{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		key := join(path, f.Tag.Get("yaml"))
		keys[key] = true
		ft := f.Type
		if ft.Kind() == reflect.Slice {
			ft, key = ft.Elem(), key+"[]"
		}
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct && ft != reflect.TypeFor[time.Time]() {
			for k := range allKeys(ft, key) {
				keys[k] = true
			}
		}
	}
	return keys
}
