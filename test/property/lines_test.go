package property

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

var baseNames = []string{"base:1", "base:2", "base:on", "base:cur", "${BASE}", "scratch", "base:1", "base:cur"}

// appendStage adds a stage of some instructions.
func appendStage(r *rand.Rand, lines []string) []string {
	earlier := stages(lines)
	base := pick(r, baseNames)
	if len(earlier) > 0 && r.IntN(4) == 0 {
		base = pick(r, earlier)
	}
	lines = append(lines, fmt.Sprintf("FROM %s AS s%d", base, len(earlier)))
	for range 2 + r.IntN(5) {
		lines = append(lines, randomLine(r, lines))
	}
	return lines
}

// stages are the names of the stages that lines begin.
func stages(lines []string) []string {
	var names []string
	for _, l := range lines {
		if strings.HasPrefix(l, "FROM ") {
			_, name, _ := strings.Cut(l, " AS ")
			names = append(names, name)
		}
	}
	return names
}

// hasShell tells whether the stage that lines end in has one.
func hasShell(lines []string) bool {
	is := map[string]bool{}
	last := false
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, "FROM "); ok {
			base, name, _ := strings.Cut(rest, " AS ")
			last = base != "scratch" && (!strings.HasPrefix(base, "s") || is[base])
			is[name] = last
		}
	}
	return last
}

// randomLine is an instruction that may follow lines.
func randomLine(r *rand.Rand, lines []string) string {
	earlier := stages(lines)
	if len(earlier) > 0 {
		earlier = earlier[:len(earlier)-1]
	}
	n := r.IntN(100)
	switch k := r.IntN(20); {
	case k < 8 && hasShell(lines):
		return randomRun(r, earlier, n)
	case k < 16:
		return randomCopy(r, earlier, n)
	}
	return pick(r, []string{
		"ARG A", "ARG A=default", "ARG B=${A:-none}", "ENV E=$A", fmt.Sprintf("ENV E=%d F=\"x ${E}\"", n%5), "ENV PATH=/usr/bin:/bin:/$A",
		"WORKDIR /w", "WORKDIR sub", fmt.Sprintf("WORKDIR /w/%d/$A", n%4), "WORKDIR /lnk/in", "USER root", "USER app", "USER 7:8", "VOLUME /w/vol", "VOLUME /out",
		fmt.Sprintf("LABEL l=\"$E %d\"", n%3), "EXPOSE 80", "CMD echo $E", "STOPSIGNAL 9", "ONBUILD RUN echo onbuild > /out/onbuild",
		"ONBUILD COPY a /onbuild", "ENTRYPOINT [\"/x\"]", "SHELL [\"/bin/sh\", \"-ec\"]", "HEALTHCHECK CMD true",
	})
}

func randomCopy(r *rand.Rand, earlier []string, n int) string {
	flags := ""
	add := func(odds int, list ...string) {
		if r.IntN(odds) == 0 {
			flags += " " + pick(r, list)
		}
	}
	add(4, "--chown=5:6", "--chown=7", "--chown=root:root")
	add(4, "--chmod=755", "--chmod=600", "--chmod=u=rwX,go=rX")
	add(4, "--link")
	sources := []string{"a", "dir", "dir/", "dir/sub", ".", "*", "dir/*", "*.txt*", "dir/../a", "a dir", "d*", "x.tar", "dir/a", "*/a", "link*"}
	dest := pick(r, []string{"/w/", "/out/", "./", "/copied/", "/w/deep/er/", fmt.Sprintf("/n%d/", n%4), "/lnk/", "sub/"})
	verb := "COPY"
	switch k := r.IntN(10); {
	case k == 0:
		return fmt.Sprintf("COPY%s <<e1 <<\"e2\" %s\n$A %d\ne1\n$A\ne2", flags, dest, n)
	case k < 4 && len(earlier) > 0:
		flags += " --from=" + pick(r, earlier)
		sources = []string{"/out", "/out/*", "/w", "/w*", "/*/a", "/copied*", "/n*", "/out*/d*", "/."}
	case k == 4:
		flags += " --from=" + pick(r, []string{"base:1", "base:2", "base:cur"})
		sources = []string{"/etc/passwd", "/out*", "/lnk*", "/etc", "/opt"}
	case k < 7:
		verb = "ADD"
		if r.IntN(4) == 0 {
			flags += " " + pick(r, []string{"--unpack=false", "--unpack"})
		}
		sources = append(sources, "x.tar", "*.tar")
	}
	add(4, "--parents")
	add(4, "--exclude=*.txt", "--exclude=**/sub", "--exclude=dir/a --exclude=link")
	return fmt.Sprintf("%s%s %s %s", verb, flags, pick(r, sources), dest)
}

func randomRun(r *rand.Rand, earlier []string, n int) string {
	mount, script := "", ""
	switch k := r.IntN(12); {
	case k < 2:
		src := pick(r, []string{"", ",source=dir", ",source=a", ",source=dir/sub"})
		mount = " --mount=target=/m" + src + pick(r, []string{"", ",rw"})
		script = pick(r, []string{"cp -r /m /out/m", "find /m -type f | sort | xargs cksum > /out/msum", "rm -rf /m/*; echo $? > /out/rm", "find /m -exec stat -c '%n %a %u:%g' {} + | sort > /out/mstat"})
	case k == 2:
		from := pick(r, append([]string{"base:1", "base:2", "base:cur"}, earlier...))
		mount = fmt.Sprintf(" --mount=from=%s,target=/m%s", from, pick(r, []string{"", ",source=/out", ",source=/etc,rw"}))
		script = pick(r, []string{"ls -A /m > /out/ls", "cp -a /m/. /out/m", "find /m -xdev -type f | sort | grep -v busybox | xargs cksum > /out/msum"})
	case k == 3:
		mount, script = pick(r, []string{" --mount=type=cache,target=/c,ro", " --mount=type=tmpfs,target=/c", " --mount=type=cache,target=/c,from=base:2,source=/etc,ro"}), "touch /c/x; ls /c > /out/c"
	case k == 4:
		return fmt.Sprintf("RUN <<end\necho $A $E %d > /out/here\npwd >> /out/here\nend", n%5)
	default:
		script = pick(r, []string{
			fmt.Sprintf("echo $A-$E-%d >> /out/log", n%5), fmt.Sprintf("mkdir -p /out/d%d/e; echo %d > /out/d%d/f; chmod 4750 /out/d*/f", n%3, n%7, n%3),
			"rm -rf /out/d* /w/dir", "rm -rf /w; mkdir -m 777 /w", "mv /w/* /out/", "ln -s log /out/l; ln /out/log /out/hard",
			"x=$(stat -c '%n %a %u:%g %h %F' /out/* /w/* | sort); echo \"$x\" > /out/stat", "x=$(find / -xdev -not -path '/proc*' -not -path '/sys*' -not -path '/dev*' | sort | cksum); echo $x > /out/all",
			fmt.Sprintf("touch -d @%d /out/log /w/a /out", 1_100_000_000+n%5), "chown 5:6 /out/*; chmod 700 /w/dir", "env | sort > /out/env; id > /out/id; pwd > /out/pwd",
			"mknod /out/fifo p; mkdir -p /out/x/y; rm -rf /out/x/y", "cp -a /w/. /out/w", "mkdir -p /w/deep; echo same > /w/deep/f", "date -r /out/log > /out/date",
			"find /out /w -type f | sort | xargs stat -c '%n %Y' > /tmp/times", "rm -f /lnk; mkdir /lnk", "cat /w/* | cksum > /out/sum", "echo '" + fmt.Sprint(n%3) + "' | tee /w/one /w/two",
		})
	}
	if r.IntN(10) == 0 {
		mount += " --network=none"
	}
	return fmt.Sprintf("RUN%s { %s; } 2>/dev/null; true", mount, script)
}
