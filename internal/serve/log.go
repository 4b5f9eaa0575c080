package serve

import (
	"fmt"
	"io"
	"log/slog"

	"nacre/internal/serve/config"
)

// NewLog makes the log that c wants: JSON, or text for people where w is a terminal.
func NewLog(c config.Log, w io.Writer, terminal bool) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "text" || c.Format == "auto" && terminal {
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return slog.New(slog.NewJSONHandler(w, o)), nil
}
