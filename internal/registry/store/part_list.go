package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// listPage is how many rows a list reads at once: no connection is held while somebody
// takes his time with them.
const listPage = 1000

// RepoTags yields the tags of a repository that sort after the one given, in byte order.
// Errors: registry.ErrAbsent (there is no such repository).
func (s *Store) RepoTags(ctx context.Context, r Repo, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.repoExists(ctx, r); err != nil {
			yield("", err)
			return
		}
		for {
			tags, err := texts[string](ctx, s.db, `SELECT DISTINCT tag FROM name WHERE repo IN (?, ?) AND tag > ? AND digest = ''
				ORDER BY tag LIMIT ?`, r.Name, r.Also, after, listPage)
			if err != nil {
				yield("", s.fail(err))
				return
			}
			for _, t := range tags {
				if !yield(t, nil) {
					return
				}
			}
			if len(tags) < listPage {
				return
			}
			after = tags[len(tags)-1]
		}
	}
}

func (s *Store) repoExists(ctx context.Context, r Repo) error {
	var is bool
	err := s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM name WHERE repo IN (?1, ?2)) OR EXISTS (SELECT 1 FROM part WHERE repo = ?1)`,
		r.Name, r.Also).Scan(&is)
	if err == nil && !is {
		err = fmt.Errorf("repository %s: %w", registry.Ref{Repo: r.Name}.FamiliarRepo(), registry.ErrAbsent)
	}
	return s.fail(err)
}

// Repos lists the repositories of images that have a tag, and of parts, in no order of use.
func (s *Store) Repos(ctx context.Context) ([]string, error) {
	// Each next one is looked up in the index: however many tags there are, it is as quick as there
	// are repositories.
	repos, err := texts[string](ctx, s.db, `WITH RECURSIVE
		n (repo) AS (SELECT min(repo) FROM name UNION SELECT (SELECT min(repo) FROM name WHERE name.repo > n.repo) FROM n WHERE n.repo IS NOT NULL),
		p (repo) AS (SELECT min(repo) FROM part UNION SELECT (SELECT min(repo) FROM part WHERE part.repo > p.repo) FROM p WHERE p.repo IS NOT NULL)
		SELECT repo FROM n WHERE repo IS NOT NULL UNION SELECT repo FROM p WHERE repo IS NOT NULL`)
	return repos, s.fail(err)
}

// RepoReferrers lists the manifests of a repository whose subject is d, in order of digest.
func (s *Store) RepoReferrers(ctx context.Context, r Repo, d digest.Digest) ([]registry.Descriptor, error) {
	list, err := all(ctx, s.db, func(rows *sql.Rows) (v registry.Descriptor, err error) {
		var notes string
		if err = rows.Scan((*string)(&v.Digest), &v.MediaType, &v.Size, &v.ArtifactType, &notes); err == nil && notes != "" {
			err = json.Unmarshal([]byte(notes), &v.Annotations)
		}
		return v, err
	}, "SELECT digest, media, size, type, annotations FROM referrer WHERE subject = ? ORDER BY digest", d)
	if err != nil {
		return nil, s.fail(err)
	}
	var out []registry.Descriptor
	for _, v := range list {
		if p, err := s.part(ctx, s.db, r, v.Digest); err == nil && p.Kept {
			out = append(out, v)
		}
	}
	return out, nil
}

// TagInfo says of a tag what retention asks.
type TagInfo struct {
	Tag            string
	Target         digest.Digest
	Pushed, Pulled time.Time // when the tag was last given to Target; when it was last resolved since, zero: never
}

// TagInfos lists the tags of a repository, those given last first.
func (s *Store) TagInfos(ctx context.Context, r Repo) ([]TagInfo, error) {
	list, err := all(ctx, s.db, func(rows *sql.Rows) (v TagInfo, err error) {
		var pushed, pulled int64
		err = rows.Scan(&v.Tag, (*string)(&v.Target), &pushed, &pulled)
		v.Pushed = time.Unix(0, pushed)
		if pulled > 0 {
			v.Pulled = time.Unix(0, pulled)
		}
		return v, err
	}, "SELECT tag, target, added, pulled FROM name WHERE repo IN (?, ?) AND digest = '' ORDER BY added DESC, tag", r.Name, r.Also)
	return list, s.fail(err)
}

// Pull is a tag that was resolved.
type Pull struct {
	Repo Repo
	Tag  string
}

// NotePulls records when tags were last pulled. Errors of a full disk are none.
func (s *Store) NotePulls(ctx context.Context, pulls map[Pull]time.Time) error {
	if len(pulls) == 0 {
		return nil
	}
	err := s.update(ctx, func(tx querier) error {
		for p, t := range pulls {
			_, err := tx.ExecContext(ctx, "UPDATE name SET pulled = max(pulled, ?) WHERE repo IN (?, ?) AND tag = ? AND digest = ''",
				t.UnixNano(), p.Repo.Name, p.Repo.Also, p.Tag)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if isFull(err) {
		return nil
	}
	return err
}
