package network

import "nacre/internal/network/port"

// Port is a port of a container, and of the host if it is published there.
type Port = port.Port

// ParsePublish reads what docker's --publish takes, in all its forms.
func ParsePublish(s string) ([]Port, error) { return port.ParsePublish(s) }

// ParseExpose reads PORT[-END][/PROTO], as --expose and an image's config have it.
func ParseExpose(s string) ([]Port, error) { return port.ParseExpose(s) }
