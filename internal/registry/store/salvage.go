package store

import "context"

func (s *Store) salvage(ctx context.Context) error { return nil }
