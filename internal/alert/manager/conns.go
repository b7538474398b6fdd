package manager

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// conns are the connections of one configuration's integrations. Not all of them heed a context, and none closes its idle ones: a
// silence of idle ends a connection, and close ends all.
type conns struct {
	idle   time.Duration
	ctx    context.Context //nolint:containedctx // ends the dialing of integrations that have none
	cancel context.CancelFunc
	mu     sync.Mutex
	open   map[*conn]struct{}
}

func newConns(idle time.Duration) *conns {
	c := &conns{idle: idle, open: map[*conn]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

type conn struct {
	net.Conn
	of *conns
}

func (c *conns) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.idle)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	nc := &conn{raw, c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, errors.Join(context.Canceled, raw.Close())
	}
	c.open[nc] = struct{}{}
	return nc, nil
}

func (c *conns) close() {
	c.cancel()
	c.mu.Lock()
	open := c.open
	c.open = map[*conn]struct{}{}
	c.mu.Unlock()
	for nc := range open {
		nc.Conn.Close()
	}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.extend(); err != nil { // for the one that waits for the answer
		return 0, err
	}
	return c.Conn.Write(b)
}

// extend gives an answer a little more time than its attempt has: the attempt's own error says more.
func (c *conn) extend() error { return c.SetDeadline(time.Now().Add(c.of.idle + 2*grace)) }

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
