package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
)

// parseTemplate parses a --format template with docker's functions.
func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(templateFunctions()).Parse(text)
	if err != nil {
		return nil, badTemplate(err, nil)
	}
	return t, nil
}

// badTemplate says in docker's words what is wrong with a template, and which fields there are.
func badTemplate(err error, fields []string) error {
	err = fmt.Errorf("--format: template parsing error: %w", err)
	if len(fields) == 0 {
		return err
	}
	return &hintError{err, "there are ." + strings.Join(fields, ", .")}
}

// unescape lets \t and \n be typed in a shell's quotes, as docker does.
func unescape(s string) string { return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(s) }

// templateFunctions are those that docker's templates have besides text/template's own.
func templateFunctions() template.FuncMap {
	return template.FuncMap{
		"json":     jsonText,
		"split":    strings.Split,
		"join":     strings.Join,
		"title":    strings.Title, //lint:ignore SA1019 it is docker's, for ASCII
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      padded,
		"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
	}
}

// headerFunctions take their place for the names above a table, which stay as they are: only pad moves columns.
func headerFunctions() template.FuncMap {
	return template.FuncMap{
		"json":     func(v any) string { s, _ := v.(string); return s },
		"split":    func(s, _ string) string { return s },
		"join":     func(s, _ string) string { return s },
		"title":    func(s string) string { return s },
		"lower":    func(s string) string { return s },
		"upper":    func(s string) string { return s },
		"truncate": func(s string, _ int) string { return s },
	}
}

func jsonText(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(b.String()), err
}

// padded has spaces before and after s, unless it is empty.
func padded(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
}
