package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// relay passes TCP connections on from another address of this machine, so that the API server sees one person's calls come
// from somewhere else than another's. TLS passes through it untouched.
type relay struct {
	ln     net.Listener
	target string
	dialer net.Dialer
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil once closed
}

// From makes the calls of user's kubeconfig come from another address of this machine, such as 127.0.1.11. Every address of
// 127.0.0.0/8 is there on Linux; elsewhere, and of others, only those that somebody configured.
func (c *Cluster) From(ctx context.Context, user, addr string) error {
	token := c.tokens[user]
	if token == "" {
		return fmt.Errorf("cannot send from %s as %q: no such user", addr, user)
	}
	return c.Connect(ctx, user, addr, Credentials{Token: token})
}

// relay starts a relay whose calls come from addr and returns the URL of the API server by way of it.
func (c *Cluster) relay(ctx context.Context, addr string) (url string, err error) {
	ip := net.ParseIP(addr)
	if ip == nil {
		return "", fmt.Errorf("cannot send from %q: an IP address is wanted", addr)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(addr, "0")) // fails where the address is not this machine's
	if err != nil {
		return "", fmt.Errorf("cannot send from %s: %w", addr, err)
	}
	_ = ln.Close()
	if ln, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return "", fmt.Errorf("cannot relay: %w", err)
	}
	r := &relay{ln: ln, target: c.ports[0].Address(), dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}, conns: map[net.Conn]struct{}{}}
	r.wg.Go(r.accept)
	c.mu.Lock()
	c.relays = append(c.relays, r)
	c.mu.Unlock()
	return "https://" + ln.Addr().String(), nil
}

func (r *relay) accept() {
	for {
		conn, err := r.ln.Accept()
		if err != nil {
			return // closed
		}
		r.wg.Go(func() { r.pass(conn) })
	}
}

// pass moves bytes both ways until either side ends.
func (r *relay) pass(in net.Conn) {
	defer in.Close()
	out, err := r.dialer.Dial("tcp", r.target)
	if err != nil {
		return // the client sees its connection end
	}
	defer out.Close()
	if !r.add(in, out) {
		return
	}
	defer r.remove(in, out)
	r.wg.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	_, _ = io.Copy(in, out)
}

func (r *relay) add(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		return false
	}
	for _, c := range conns {
		r.conns[c] = struct{}{}
	}
	return true
}

func (r *relay) remove(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		delete(r.conns, c)
	}
}

func (r *relay) close() {
	_ = r.ln.Close()
	r.mu.Lock()
	for c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.wg.Wait()
}
