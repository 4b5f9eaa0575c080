package store

import (
	"context"
	"database/sql"
	"fmt"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// repositories looks for parts that are lost: somebody was told that they are kept.
func (c *checker) repositories(ctx context.Context) error {
	parts, err := all(ctx, c.s.db, func(r *sql.Rows) (k partKey, err error) {
		err = r.Scan(&k.repo, (*string)(&k.digest))
		return k, err
	}, "SELECT repo, digest FROM part")
	if err != nil {
		return err
	}
	for _, k := range parts {
		text := ""
		if ref, err := registry.ParseRef(k.repo); err != nil || ref.Repo != k.repo {
			text = "it is no name of a repository"
		} else if ok, err := c.fit(ctx, k.digest); err != nil {
			return err
		} else if !ok {
			text = fmt.Sprintf("%s is missing or damaged", k.digest)
		}
		if text == "" {
			continue
		}
		if n, err := c.count(ctx, "SELECT count(*) FROM part WHERE repo = ? AND digest = ?", k.repo, k.digest); err != nil || n == 0 {
			if err != nil {
				return err
			}
			continue // removed meanwhile
		}
		err := c.problem(Problem{Object: fmt.Sprintf("repository %q", registry.Ref{Repo: k.repo}.FamiliarRepo()), Text: text, Fix: "it is dropped there; push it again"}, func() error {
			return c.s.update(ctx, func(tx querier) error {
				_, err := tx.ExecContext(ctx, "DELETE FROM part WHERE repo = ? AND digest = ?", k.repo, k.digest)
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// subject compares what a manifest says it is about with the record of it.
func (c *checker) subject(ctx context.Context, d registry.Descriptor, data []byte) error {
	want, _ := registry.Subject(d, data)
	if want.Validate() != nil {
		want = ""
	}
	have, err := texts[digest.Digest](ctx, c.s.db, "SELECT subject FROM referrer WHERE digest = ?", d.Digest)
	if err != nil || want == "" && len(have) == 0 || len(have) == 1 && have[0] == want {
		return err
	}
	if n, err := c.count(ctx, "SELECT count(*) FROM part WHERE digest = ? AND kept = 1", d.Digest); err != nil || n == 0 {
		return err // removed meanwhile, or it was never pushed: before format 3 nobody noted subjects
	}
	return c.problem(Problem{Object: "manifest " + d.Digest.String(), Text: "the record of its subject is wrong", Fix: "the record is put right"}, func() error {
		return c.s.update(ctx, func(tx querier) error {
			if _, err := tx.ExecContext(ctx, "DELETE FROM referrer WHERE digest = ?", d.Digest); err != nil {
				return err
			}
			return insertReferrer(ctx, tx, d, data)
		})
	})
}
