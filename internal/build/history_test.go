package build

import (
	"slices"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry/store"
)

// historyCases are what BuildKit writes for each instruction (dockerfile2llb: commitToHistory and its callers).
var historyCases = []struct {
	text  string
	want  string // created_by
	empty bool
	none  bool // no entry at all
}{
	{text: "COPY a b /d/", want: "COPY a b /d/ # buildkit"},
	{text: "COPY --chown=1:2 --chmod=600 a /x", want: "COPY --chown=1:2 --chmod=600 a /x # buildkit"},
	{text: "COPY --parents --link dir/./c /p/", want: "COPY --parents dir/./c /p/ # buildkit"},
	{text: "COPY --exclude=c dir /e", want: "COPY dir /e # buildkit"},
	{text: `COPY ["a", "b", "/j/"]`, want: "COPY a b /j/ # buildkit"},
	{text: "COPY --from=other /a /o", want: "COPY /a /o # buildkit"},
	{text: "COPY a <<EOF <<OTHER /h/\nx\nEOF\ny\nOTHER", want: "COPY a <<EOF <<OTHER /h/ # buildkit"},
	{text: "ADD a /add", want: "ADD a /add # buildkit"},
	{text: "ADD --chmod=755 *.txt /t/", want: "ADD --chmod=755 *.txt /t/ # buildkit"},
	{text: "ADD --unpack=false a /u", want: "ADD a /u # buildkit"},
	{text: "ARG plain", want: "ARG plain", empty: true},
	{text: "ARG one=1 two=$one", want: "ARG one=1 two=1", empty: true},
	{text: "ENV A=1 B=\"2 3\"", want: "ENV A=1 B=2 3", empty: true},
	{text: "ENV C old form", want: "ENV C=old form", empty: true},
	{text: "LABEL a=b \"c d\"=$A", want: "LABEL a=b c d=1", empty: true},
	{text: "EXPOSE 80 53/udp 7000-7002", want: "EXPOSE [53/udp 7000/tcp 7001/tcp 7002/tcp 80/tcp]", empty: true},
	{text: "VOLUME /v1 /v2", want: "VOLUME [/v1 /v2]", empty: true},
	{text: `VOLUME ["/v 3"]`, want: "VOLUME [/v 3]", empty: true},
	{text: "USER 7:8", want: "USER 7:8", empty: true},
	{text: "WORKDIR /w", want: "WORKDIR /w"},
	{text: "WORKDIR sub", want: "WORKDIR /w/sub"},
	{text: "WORKDIR /", want: "WORKDIR /", empty: true},
	{text: "USER root", want: "USER root", empty: true},
	{text: `SHELL ["/bin/sh", "-e", "-c"]`, want: "SHELL [/bin/sh -e -c]", empty: true},
	{text: "CMD run it", want: `CMD ["/bin/sh" "-e" "-c" "run it"]`, empty: true},
	{text: `CMD ["a", "b c"]`, want: `CMD ["a" "b c"]`, empty: true},
	{text: "ENTRYPOINT start", want: `ENTRYPOINT ["/bin/sh" "-e" "-c" "start"]`, empty: true},
	{text: `ENTRYPOINT ["/x"]`, want: `ENTRYPOINT ["/x"]`, empty: true},
	{text: "STOPSIGNAL SIGINT", want: "STOPSIGNAL SIGINT", empty: true},
	{text: "MAINTAINER me <me@x>", want: "MAINTAINER me <me@x>", empty: true},
	{text: "HEALTHCHECK --interval=30s --timeout=1m --start-period=2s --start-interval=1s --retries=4 CMD [\"c\", \"d\"]",
		want: "HEALTHCHECK {Test:[CMD c d] Interval:30s Timeout:1m0s StartPeriod:2s StartInterval:1s Retries:4}", empty: true},
	{text: "HEALTHCHECK CMD true", want: "HEALTHCHECK {Test:[CMD-SHELL true] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}", empty: true},
	{text: "HEALTHCHECK NONE", want: "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}", empty: true},
	{text: "ONBUILD RUN x", none: true},
	{text: "RUN true", want: "RUN |3 plain= one=1 two=1 /bin/sh -e -c true # buildkit"},
	{text: `RUN ["true", "a b"]`, want: "RUN |3 plain= one=1 two=1 true a b # buildkit"},
	{text: "RUN --network=none --mount=type=tmpfs,target=/mnt echo $A \\\n  && true", want: "RUN |3 plain= one=1 two=1 /bin/sh -e -c echo $A   && true # buildkit"},
	{text: "RUN <<EOF\necho 1\necho 2\nEOF", want: "RUN |3 plain= one=1 two=1 /bin/sh -e -c echo 1\necho 2\n # buildkit"},
	{text: "RUN cat <<EOF\nhi\nEOF", want: "RUN |3 plain= one=1 two=1 /bin/sh -e -c cat <<EOF\nhi\nEOF # buildkit"},
}

// TestHistory: it is what BuildKit writes, entry by entry; and a build of which all is cached changes nothing of it.
func TestHistory(t *testing.T) {
	b := newBench(t, map[string]string{"a": "a", "b": "b", "dir/c": "c", "x.txt": "x"}).withBusybox()
	text := "FROM scratch AS other\nCOPY a /\nFROM busybox\n"
	for _, c := range historyCases {
		text += c.text + "\n"
	}
	config := func(img store.Image) image.Config {
		m, _, err := b.store.Manifest(t.Context(), img, nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg, _, err := b.store.Config(t.Context(), m.Config)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	first := config(b.build(text).Image)
	base, err := b.store.Lookup(t.Context(), "busybox")
	if err != nil {
		t.Fatal(err)
	}
	got := first.History[len(config(base).History):]
	for _, c := range historyCases {
		if c.none {
			continue
		}
		if len(got) == 0 {
			t.Fatalf("%q has no entry", c.text)
		}
		h := got[0]
		got = got[1:]
		if h.CreatedBy != c.want || h.EmptyLayer != c.empty || h.Comment != "buildkit.dockerfile.v0" || h.Created == nil || h.Author != "" {
			t.Errorf("%q: got %+v, want %q, empty %v", c.text, h, c.want, c.empty)
		}
	}
	if len(got) != 0 {
		t.Errorf("%d entries too many: %+v", len(got), got)
	}
	last := first.History[len(first.History)-1].Created
	if first.Created == nil || !first.Created.Equal(*last) {
		t.Errorf("the image was created %v, its last step %v", first.Created, last)
	}

	again := config(b.build(text).Image)
	same := slices.EqualFunc(first.History, again.History, func(a, b image.History) bool {
		return a.CreatedBy == b.CreatedBy && a.Created.Equal(*b.Created)
	})
	if !same || !first.Created.Equal(*again.Created) || time.Since(*again.Created) < 0 {
		t.Errorf("cached, it has other times: %v and %v", first.Created, again.Created)
	}
}
