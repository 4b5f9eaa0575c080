package hosted

import (
	"context"
	"errors"
	"fmt"
	"time"

	"nacre/internal/glob"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// Rule says which tags of the repositories that fit a pattern stay: those that any of its parts
// speaks for. A rule without any keeps all.
type Rule struct {
	Repos  string        // pattern of package glob
	Last   int           // the tags given last, this many
	Pulled time.Duration // those pulled within this time
	Pushed time.Duration // those given within this time
	Tags   []string      // those that fit one of these patterns
}

// Verdict is what becomes of a tag, and why.
type Verdict struct {
	Repo, Tag      string
	Digest         digest.Digest
	Pushed, Pulled time.Time // Pulled is zero where it never was
	Keep           bool
	Why            string
}

// Retain applies the rules of Options to all tags: those that none keeps are removed, unless dry. Repositories
// that no rule fits are left alone. What the tags named goes when its grace is over, with Collect.
func (r *Registry) Retain(ctx context.Context, dry bool) ([]Verdict, error) {
	if len(r.o.Retention) == 0 {
		return nil, nil
	}
	if err := errors.Join(r.writable(), r.Flush(ctx)); err != nil {
		return nil, err
	}
	var all []Verdict
	for repo, err := range r.Repos(ctx, "") {
		if err != nil {
			return all, err
		}
		rule, ok := r.rule(repo)
		if !ok {
			continue
		}
		verdicts, err := r.retain(ctx, repo, rule, dry)
		all = append(all, verdicts...)
		if err != nil {
			return all, fmt.Errorf("retention of %s: %w", repo, err)
		}
	}
	return all, nil
}

func (r *Registry) rule(repo string) (Rule, bool) {
	for _, rule := range r.o.Retention {
		if glob.Match(rule.Repos, repo) {
			return rule, true
		}
	}
	return Rule{}, false
}

func (r *Registry) retain(ctx context.Context, repo string, rule Rule, dry bool) ([]Verdict, error) {
	in, err := r.names.repo(repo)
	if err != nil {
		return nil, err
	}
	tags, err := r.s.TagInfos(ctx, in)
	if err != nil {
		return nil, err
	}
	verdicts := rule.judge(repo, tags, r.o.Clock())
	if dry {
		return verdicts, nil
	}
	for i, v := range verdicts {
		if v.Keep {
			continue
		}
		// Only what was judged: it may have been pushed anew meanwhile.
		err := r.s.DropTag(ctx, in, v.Tag, v.Digest, r.untilUntagged())
		if err != nil && !errors.Is(err, registry.ErrAbsent) {
			return verdicts[:i], err
		}
	}
	return verdicts, nil
}

// judge decides on the tags of a repository, of which those given last come first.
func (rule Rule) judge(repo string, tags []store.TagInfo, now time.Time) []Verdict {
	verdicts := make([]Verdict, len(tags))
	last := 0
	for i, t := range tags {
		v := Verdict{Repo: repo, Tag: t.Tag, Digest: t.Target, Pushed: t.Pushed, Pulled: t.Pulled}
		if t.Pushed.After(now) {
			// Nobody knows whether it is old, nor may it take the place of those pushed since.
			v.Keep, v.Why = true, "pushed when the clock was ahead"
		} else {
			v.Keep, v.Why = rule.keeps(last, t, now)
			last++
		}
		verdicts[i] = v
	}
	return verdicts
}

// keeps decides on the tag that is number i of those given last.
func (rule Rule) keeps(i int, t store.TagInfo, now time.Time) (bool, string) {
	for _, p := range rule.Tags {
		if glob.Match(p, t.Tag) {
			return true, fmt.Sprintf("fits %q", p)
		}
	}
	switch {
	case rule.Last == 0 && rule.Pulled == 0 && rule.Pushed == 0 && len(rule.Tags) == 0:
		return true, "the rule keeps all"
	case i < rule.Last:
		return true, fmt.Sprintf("number %d of the last %d", i+1, rule.Last)
	case rule.Pushed > 0 && now.Sub(t.Pushed) <= rule.Pushed:
		return true, fmt.Sprintf("pushed within %s", rule.Pushed)
	case rule.Pulled > 0 && !t.Pulled.IsZero() && now.Sub(t.Pulled) <= rule.Pulled:
		return true, fmt.Sprintf("pulled within %s", rule.Pulled)
	}
	return false, "no part of the rule keeps it"
}
