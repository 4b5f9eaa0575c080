package e2e

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestOnbuild(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	parent := writeFiles(t, map[string]string{
		"Dockerfile": "FROM busybox\nWORKDIR /src\nONBUILD COPY . /src\nONBUILD RUN cat name > greeting && echo ready >> greeting\nCMD [\"cat\",\"/src/greeting\"]\n",
		"name":       "the parent's file\n",
	})
	s.build(t, "parent", parent)
	if got := s.inspect(t, "parent", "{{json .Config.OnBuild}}"); got != `["COPY . /src","RUN cat name \u003e greeting \u0026\u0026 echo ready \u003e\u003e greeting"]` &&
		got != `["COPY . /src","RUN cat name > greeting && echo ready >> greeting"]` {
		t.Errorf("triggers: %s", got)
	}
	if r := s.run(t, "run", "--rm", "--network", "none", "parent", "ls", "/src"); r.stdout != "" || r.code != 0 {
		t.Errorf("triggers ran in the parent: %v", r)
	}
	child := writeFiles(t, map[string]string{"Dockerfile": "FROM parent\nLABEL a=b\n", "name": "the child's file\n"})
	s.build(t, "child", child)
	if got := s.ok(t, "run", "--rm", "--network", "none", "child"); got != "the child's file\nready" {
		t.Errorf("the child says %q", got)
	}
	if got := s.inspect(t, "child", "{{json .Config.OnBuild}}"); got != "null" && got != "[]" {
		t.Errorf("the child kept the triggers: %s", got)
	}
	nested := writeFiles(t, map[string]string{"Dockerfile": "FROM busybox\nONBUILD ONBUILD RUN true\n"})
	s.fails(t, 1, []string{`Dockerfile:2`, `(?i)onbuild`}, "build", nested)
}

func TestArgBeforeFrom(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for _, version := range []string{"1.0", "2.0"} {
		s.build(t, "base:"+version, writeFiles(t, map[string]string{
			"Dockerfile": "FROM busybox\nRUN echo " + version + " > /version\n"}))
	}
	dir := writeFiles(t, map[string]string{"Dockerfile": `ARG VERSION=1.0
FROM base:${VERSION}
RUN echo "outer is [$VERSION]" >> /version
ARG VERSION
RUN echo "inner is [$VERSION]" >> /version
`})
	s.build(t, "app", dir)
	if got := s.ok(t, "run", "--rm", "--network", "none", "app", "cat", "/version"); got != "1.0\nouter is []\ninner is [1.0]" {
		t.Errorf("by default: %q", got)
	}
	s.build(t, "app", dir, "--build-arg", "VERSION=2.0")
	if got := s.ok(t, "run", "--rm", "--network", "none", "app", "cat", "/version"); got != "2.0\nouter is []\ninner is [2.0]" {
		t.Errorf("with --build-arg: %q", got)
	}
	r := s.run(t, "build", "--build-arg", "NOBODY=1", dir)
	if r.code != 0 || !strings.Contains(r.stderr, "NOBODY") {
		t.Errorf("an unused argument wants a warning: %v", r)
	}
	s.fails(t, 1, []string{`Dockerfile:2`, `9\.9`}, "build", "--build-arg", "VERSION=9.9", dir)
}

// TestConfig: what instructions leave in the config, as docker's inspect shows it.
func TestConfig(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": `FROM busybox
MAINTAINER someone
ENV A=1 B="two words"
ENV C $A-$B
LABEL org.example.one=1 org.example.two="two $A"
WORKDIR /srv
WORKDIR data
USER www-data:users
VOLUME /data /more
VOLUME ["/cache"]
EXPOSE 80 53/udp 7000-7002
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=2 CMD wget -q -O- http://127.0.0.1/ || exit 1
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT exec echo
CMD ["a", "b"]
`})
	s.build(t, "full", dir)
	want := map[string]string{
		"{{.Author}}":                   `someone`,
		"{{.Config.User}}":              `www-data:users`,
		"{{.Config.WorkingDir}}":        `/srv/data`,
		"{{.Config.StopSignal}}":        `SIGQUIT`,
		"{{.Os}}":                       `linux`,
		"{{json .RepoTags}}":            `["full:latest"]`,
		"{{json .Config.Shell}}":        `["/bin/sh","-ec"]`,
		"{{json .Config.Entrypoint}}":   `["/bin/sh","-ec","exec echo"]`,
		"{{json .Config.Cmd}}":          `["a","b"]`,
		"{{json .Config.Labels}}":       `{"org.example.one":"1","org.example.two":"two 1"}`,
		"{{json .Config.Env}}":          `["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=1","B=two words","C=1-two words"]`,
		"{{json .Config.Volumes}}":      `{"/cache":{},"/data":{},"/more":{}}`,
		"{{json .Config.ExposedPorts}}": `{"53/udp":{},"7000/tcp":{},"7001/tcp":{},"7002/tcp":{},"80/tcp":{}}`,
		"{{json .Config.Healthcheck}}": `{"Test":["CMD-SHELL","wget -q -O- http://127.0.0.1/ || exit 1"],` +
			`"Interval":30000000000,"Timeout":3000000000,"StartPeriod":5000000000,"Retries":2}`,
	}
	for template, value := range want {
		if got := s.inspect(t, "full", template); got != value && !sameJSON(got, value) {
			t.Errorf("%s is\n  %s, wanted\n  %s", template, got, value)
		}
	}

	s.build(t, "less", writeFiles(t, map[string]string{"Dockerfile": "FROM full\nHEALTHCHECK NONE\nENTRYPOINT [\"/bin/echo\",\"now\"]\n"}))
	for template, value := range map[string]string{
		"{{json .Config.Healthcheck}}": `{"Test":["NONE"]}`,
		"{{json .Config.Cmd}}":         `null`, // a new ENTRYPOINT drops the CMD it knew nothing of
		"{{.Config.User}}":             `www-data:users`,
	} {
		if got := s.inspect(t, "less", template); got != value {
			t.Errorf("%s is %s, wanted %s", template, got, value)
		}
	}
	if got := s.ok(t, "run", "--rm", "--network", "none", "--entrypoint", "id", "less"); !strings.HasPrefix(got, "uid=33(www-data) gid=100(users)") {
		t.Errorf("it runs as %s", got)
	}
	if got := s.ok(t, "run", "--rm", "--network", "none", "--entrypoint", "pwd", "less"); got != "/srv/data" {
		t.Errorf("it runs in %s", got)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// TestStages: independent stages run side by side, those that nobody needs do not run.
func TestStages(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": `FROM busybox AS a
RUN --mount=type=cache,id=meet,target=/meet touch /meet/a && timeout 60 sh -c 'until [ -e /meet/b ]; do sleep 0.05; done' && echo a > /out
FROM busybox AS b
RUN --mount=type=cache,id=meet,target=/meet touch /meet/b && timeout 60 sh -c 'until [ -e /meet/a ]; do sleep 0.05; done' && echo b > /out
FROM busybox AS broken
RUN exit 1
FROM scratch AS files
COPY --from=a /out /a
COPY --from=b /out /b
FROM busybox
COPY --from=files / /both/
COPY --from=0 /out /zero
`})
	s.build(t, "both", dir) // each waits for the other: one after the other they would not end
	if got := s.ok(t, "run", "--rm", "--network", "none", "both", "sh", "-c", "cat /both/a /both/b /zero"); got != "a\nb\na" {
		t.Errorf("files: %q", got)
	}
	s.fails(t, 1, []string{`Dockerfile:6`, `exit code: 1`}, "build", "--target", "broken", dir)
	files := s.build(t, "files", dir, "--target", "files")
	for name := range files.cached {
		if strings.Contains(name, "broken") {
			t.Errorf("%s was not needed", name)
		}
	}
	if got := s.inspect(t, "files", "{{len .RootFS.Layers}}"); got != "2" {
		t.Errorf("--target files has %s layers", got)
	}
}
