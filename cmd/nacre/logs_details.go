package main

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"nacre/internal/container"
)

// logDetails are what --log-opt labels, env and tag pick of a container, as docker's "logs --details" has them: KEY=VALUE,…, by key,
// both escaped as in a URL.
func logDetails(c *container.Container) (string, error) {
	o := c.Config.Log.Options
	env := map[string]string{}
	for _, e := range c.Config.Env {
		key, value, _ := strings.Cut(e, "=")
		env[key] = value
	}
	picked := map[string]string{}
	for _, from := range []struct {
		names, pattern string
		all            map[string]string
	}{{"labels", "labels-regex", c.Config.Labels}, {"env", "env-regex", env}} {
		for name := range strings.SplitSeq(o[from.names], ",") {
			if value, ok := from.all[name]; ok {
				picked[name] = value
			}
		}
		if o[from.pattern] == "" {
			continue
		}
		re, err := regexp.Compile(o[from.pattern])
		if err != nil {
			return "", fmt.Errorf("%s: %w", from.pattern, err)
		}
		for name, value := range from.all {
			if re.MatchString(name) {
				picked[name] = value
			}
		}
	}
	if o["tag"] != "" {
		tag, err := logTag(c, o["tag"])
		if err != nil {
			return "", err
		}
		picked["tag"] = tag
	}
	var list []string
	for _, key := range slices.Sorted(maps.Keys(picked)) {
		list = append(list, url.QueryEscape(key)+"="+url.QueryEscape(picked[key]))
	}
	return strings.Join(list, ","), nil
}

// logSubject is what the template of --log-opt tag may ask for (docker's loggerutils.ParseLogTag).
type logSubject struct{ ID, FullID, Name, ImageID, ImageFullID, ImageName, Command, DaemonName string }

func logTag(c *container.Container, text string) (string, error) {
	t, err := template.New("").Funcs(templateFunctions()).Parse(text)
	if err != nil {
		return "", fmt.Errorf("template parsing error: %w", err)
	}
	image := c.Config.ImageID.String()
	var b strings.Builder
	err = t.Execute(&b, logSubject{
		ID: c.ShortID(), FullID: c.ID, Name: c.Name, ImageID: image[:min(12, len(image))], ImageFullID: image, ImageName: c.Config.Image,
		Command: strings.Join(c.Config.Args(), " "), DaemonName: "nacre",
	})
	if err != nil {
		return "", fmt.Errorf("template parsing error: %w", err)
	}
	return b.String(), nil
}
