package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"nacre/internal/registry"
)

const (
	pageSize = "1000"
	maxPages = 10_000
	maxPage  = 32 << 20 // bytes
	maxNames = 1_000_000
)

// Tags implements registry.TagLister.
func (r *Registry) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		p, err := r.place(repo)
		if err != nil {
			yield("", err)
			return
		}
		names, err := read(p, func(e *endpoint) ([]string, error) {
			return e.names(ctx, e.prefix+p.repo+"/tags/list", p.scope(e, "pull"), after)
		})
		yieldAll(names, wrap(repo, err), yield)
	}
}

func wrap(what string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}

func yieldAll(names []string, err error, yield func(string, error) bool) {
	if err != nil {
		yield("", err)
		return
	}
	for _, n := range names {
		if !yield(n, nil) {
			return
		}
	}
}

// names reads a list of tags or repositories, all its pages, and sorts it: not every
// registry does, nor minds where a list is to begin.
func (e *endpoint) names(ctx context.Context, path, scope, after string) ([]string, error) {
	q := url.Values{"n": {pageSize}}
	if after != "" {
		q.Set("last", after)
	}
	var all []string
	err := e.pages(ctx, &request{method: http.MethodGet, path: path, query: q, scope: scope}, func(data []byte) error {
		var page struct {
			Tags         []string `json:"tags"`
			Repositories []string `json:"repositories"`
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return fmt.Errorf("%w: %s: the list is not one: %w", registry.ErrInvalid, e.name, err)
		}
		for _, n := range append(page.Tags, page.Repositories...) {
			if n > after {
				all = append(all, n)
			}
		}
		if len(all) > maxNames {
			return fmt.Errorf("%w: %s: a list of more than %d names", registry.ErrInvalid, e.name, maxNames)
		}
		return nil
	})
	slices.Sort(all)
	return slices.Compact(all), err
}

// pages reads a list page by page.
func (e *endpoint) pages(ctx context.Context, q *request, page func([]byte) error) error {
	for range maxPages {
		resp, err := e.do(ctx, q, http.StatusOK)
		if err != nil {
			return err
		}
		data, err := registry.ReadAll(resp.Body, maxPage)
		resp.Body.Close()
		if err != nil {
			return e.failure(q.op(), err)
		}
		if err := page(data); err != nil {
			return err
		}
		next := nextPage(resp.Header.Values("Link"))
		if next == "" {
			return nil
		}
		u, err := resp.Request.URL.Parse(next)
		if err != nil || u.Host != resp.Request.URL.Host {
			return fmt.Errorf("%w: %s: the next page of the list is elsewhere", registry.ErrInvalid, e.name)
		}
		u.Scheme = resp.Request.URL.Scheme
		if u.String() == resp.Request.URL.String() {
			return fmt.Errorf("%w: %s: the list has no end", registry.ErrInvalid, e.name)
		}
		q = &request{method: http.MethodGet, url: u, scope: q.scope, header: q.header}
	}
	return fmt.Errorf("%w: %s: a list of more than %d pages", registry.ErrInvalid, e.name, maxPages)
}

// nextPage reads the Link header (RFC 8288) of a list.
func nextPage(headers []string) string {
	for _, h := range headers {
		for _, link := range strings.Split(h, ",") {
			target, params, ok := strings.Cut(strings.TrimSpace(link), ">")
			target, ok2 := strings.CutPrefix(target, "<")
			rel := strings.ReplaceAll(strings.ReplaceAll(params, `"`, ""), " ", "")
			if ok && ok2 && slices.Contains(strings.Split(rel, ";"), "rel=next") {
				return target
			}
		}
	}
	return ""
}

// absentAsNone turns ErrAbsent into none.
func absentAsNone(err error) error {
	if errors.Is(err, registry.ErrAbsent) {
		return nil
	}
	return err
}
