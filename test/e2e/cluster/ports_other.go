//go:build !linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Port is a free TCP port on 127.0.0.1. Outside Linux it cannot be held: another program may take it before it is used.
type Port struct{ number int }

// HoldPort finds a free port. Its owner calls Release.
func HoldPort() (*Port, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot hold a port: %w", err)
	}
	addr, ok := ln.Addr().(*net.TCPAddr)
	if err := ln.Close(); err != nil || !ok {
		return nil, errors.Join(errors.New("cannot hold a port"), err)
	}
	return &Port{number: addr.Port}, nil
}

// Release gives the port back.
func (p *Port) Release() error { return nil }
