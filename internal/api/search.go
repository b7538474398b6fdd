package api

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/store"
	"whodunit/internal/store/wire"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	maxPageBytes = 32 << 20 // a page ends early rather than hold more
)

var errStop = errors.New("enough")

// selection reads q, expr, from and to.
func (a *API) selection(c *call) (q store.Query, err error) {
	if text, expr := c.values.Get("q"), c.values.Get("expr"); text != "" && expr != "" {
		return q, bad("both q and expr are given", "give one")
	} else if expr != "" {
		if q.Expr, err = wire.DecodeExpr(expr); err != nil {
			return q, bad(err.Error(), "write the query as q instead")
		}
	} else if q.Expr, err = a.o.Language.Parse(text); err != nil {
		p := bad(err.Error(), "see the search language in the manual; put values with special characters in quotes")
		var at interface{ Column() int }
		if errors.As(err, &at) {
			p.column = at.Column()
		}
		return q, p
	}
	now := a.o.Now()
	for _, end := range []struct {
		name string
		to   *int64
	}{{"from", &q.From}, {"to", &q.To}} {
		s := c.values.Get(end.name)
		if s == "" {
			continue
		}
		t, err := a.o.Language.Time(s, now)
		if err != nil {
			return q, bad(fmt.Sprintf("cannot read the parameter %s: %v", end.name, err), "write RFC 3339 such as 2026-11-21T10:00:00Z, or now-1h")
		}
		*end.to = t.UnixMicro()
	}
	if q.From != 0 && q.To != 0 && q.From >= q.To {
		return q, bad(fmt.Sprintf("the time range is empty: from is %s, to is %s", wire.Time(q.From), wire.Time(q.To)), "from is inclusive, to is exclusive")
	}
	return q, nil
}

func (c *call) number(name string, standard, low, high int) (int, error) {
	s := c.values.Get(name)
	if s == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, bad(fmt.Sprintf("cannot read the parameter %s: %.40q is no number from %d to %d", name, s, low, high), "correct it, or leave it out")
	}
	return n, nil
}

// slot waits for a place among the searches.
func (a *API) slot(ctx context.Context) (release func(), err error) {
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case a.searches <- struct{}{}:
		return func() { <-a.searches }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C:
		a.metrics.refused.WithLabelValues("busy").Inc()
		return nil, &problem{status: http.StatusServiceUnavailable, detail: "too many searches are running", hint: "try again soon", retryAfter: 2}
	}
}

// record is the access log: reads of audit data are themselves recorded.
func (a *API) record(c *call, q store.Query, st store.Stats, err error) {
	attrs := []any{"user", c.who.Name, "address", c.peer(), "route", c.route, "query", clip(c.text(), 4096), "matched", st.Matched, "rows", st.Rows,
		"duration", a.o.Now().Sub(c.start)}
	if q.From != 0 {
		attrs = append(attrs, "from", wire.Time(q.From))
	}
	if q.To != 0 {
		attrs = append(attrs, "to", wire.Time(q.To))
	}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	a.log.Info("query", attrs...)
}

func (c *call) text() string {
	if e := c.values.Get("expr"); e != "" {
		return e
	}
	return c.values.Get("q")
}

func (a *API) search(c *call, set Set) error {
	q, err := a.selection(c)
	if err != nil {
		return err
	}
	if s := c.values.Get("cursor"); s != "" {
		if q.Before, err = wire.DecodeCursor(s); err != nil {
			return bad("the cursor is damaged or none of ours", "take it from next of the page before, or leave it out to begin again")
		}
	}
	raw := c.values.Get("raw")
	if raw != "" && raw != "0" && raw != "1" {
		return bad("the parameter raw is 0 or 1", "correct it, or leave it out")
	}
	stream := strings.Contains(c.r.Header.Get("Accept"), wire.NDJSON) || raw == "1"
	if stream {
		q.Limit, err = c.number("limit", 0, 0, 1<<31-1)
	} else {
		q.Limit, err = c.number("limit", defaultLimit, 1, maxLimit)
	}
	if err != nil {
		return err
	}
	release, err := a.slot(c.r.Context())
	if err != nil {
		return err
	}
	defer release()
	var st store.Stats
	if stream {
		st, err = a.stream(c, set, q, raw == "1")
	} else {
		st, err = a.page(c, set, q)
	}
	a.record(c, q, st, err)
	return err
}

func (a *API) page(c *call, set Set, q store.Query) (store.Stats, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.o.QueryTimeout)
	defer cancel()
	want := q.Limit
	q.Limit++ // one more tells whether there is a next page
	page := wire.Page{Items: []json.RawMessage{}}
	var last store.Position
	size := 0
	st, err := set.Search.Search(ctx, q, func(r *audit.Record) error {
		if len(page.Items) == want || size > maxPageBytes {
			page.Next = wire.EncodeCursor(last)
			return errStop
		}
		b := wire.AppendItem(nil, r)
		page.Items, size = append(page.Items, b), size+len(b)
		last = store.Position{Micros: r.Event.Micros(), Seq: r.Seq}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return st, err
	}
	st.Matched = int64(len(page.Items))
	page.Stats = st
	return st, c.writePage(page)
}

// writePage writes the items as they are: json.Marshal would compact and escape the events.
func (c *call) writePage(p wire.Page) error {
	stats, err := json.Marshal(p.Stats)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriterSize(c.w, 64<<10)
	b.WriteString(`{"items":[`)
	for i, it := range p.Items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(it)
	}
	b.WriteByte(']')
	if p.Next != "" {
		b.WriteString(`,"next":"` + p.Next + `"`)
	}
	fmt.Fprintf(b, `,"stats":%s}`+"\n", stats)
	_ = b.Flush() // the client has gone: nobody to tell
	return nil
}

// statsTrailer carries the stats of a raw stream, which has no line for them.
const statsTrailer = "Whodunit-Stats"

func (a *API) stream(c *call, set Set, q store.Query, raw bool) (store.Stats, error) {
	c.w.Header().Set("Content-Type", wire.NDJSON)
	if raw {
		c.w.Header().Set("Trailer", statsTrailer)
	}
	out := a.newStream(c)
	var line []byte
	st, err := set.Search.Search(c.r.Context(), q, func(r *audit.Record) error {
		line = line[:0]
		if raw {
			line = append(line, wire.OneLine(r.Event.Raw)...)
		} else {
			line = wire.AppendItem(line, r)
		}
		return out.line(append(line, '\n'))
	})
	if err != nil && (c.w.code == 0 && out.b.Buffered() == 0 || raw || c.r.Context().Err() != nil) {
		return st, err // nothing sent yet: a proper problem; else the connection is cut
	}
	if raw {
		b, merr := json.Marshal(st)
		if merr != nil {
			return st, merr
		}
		err := out.flush()
		c.w.Header().Set(statsTrailer, string(b))
		return st, err
	}
	end := wire.Control{Stats: &st}
	if err != nil {
		end = wire.Control{Error: asProblem(err).wire(c.r.URL.Path)}
		a.log.Error("search failed after its answer began", "route", c.route, "user", c.who.Name, "error", err)
	}
	if err := out.control(end); err != nil {
		return st, err
	}
	return st, out.flush()
}

// stream writes lines with a deadline, and sends them when there are many or some time has gone by.
type stream struct {
	b       *bufio.Writer
	rc      *http.ResponseController
	timeout time.Duration
	sent    time.Time
}

func (a *API) newStream(c *call) *stream {
	rc := http.NewResponseController(c.w)
	_ = rc.SetWriteDeadline(time.Time{}) // a search may find nothing for long; each write has its own deadline
	return &stream{b: bufio.NewWriterSize(c.w, 64<<10), rc: rc, timeout: a.o.WriteTimeout}
}

func (s *stream) line(b []byte) error {
	if s.b.Available() < len(b) {
		_ = s.rc.SetWriteDeadline(time.Now().Add(s.timeout))
		defer func() { _ = s.rc.SetWriteDeadline(time.Time{}) }() // HTTP/2 resets the stream at a deadline even if nothing is written
	}
	if _, err := s.b.Write(b); err != nil {
		return err
	}
	if time.Since(s.sent) > 200*time.Millisecond {
		return s.flush()
	}
	return nil
}

func (s *stream) control(ctl wire.Control) error {
	b, err := json.Marshal(ctl)
	if err != nil {
		return err
	}
	return s.line(append(b, '\n'))
}

func (s *stream) flush() error {
	s.sent = time.Now()
	_ = s.rc.SetWriteDeadline(s.sent.Add(s.timeout))
	defer func() { _ = s.rc.SetWriteDeadline(time.Time{}) }()
	if err := s.b.Flush(); err != nil {
		return err
	}
	return s.rc.Flush()
}

// get finds one event by its identity. The store has no index of identities: the event's time makes it quick.
func (a *API) get(c *call, set Set) error {
	text := c.r.PathValue("identity")
	var id audit.Identity
	if n, err := hex.Decode(id[:], []byte(clip(text, 32))); err != nil || n != len(id) || len(text) != 2*len(id) {
		return bad("this is no identity: 32 hexadecimal digits are wanted", "take it from identity of an item")
	}
	var q store.Query
	if s := c.values.Get("time"); s != "" {
		t, err := a.o.Language.Time(s, a.o.Now())
		if err != nil {
			return bad(fmt.Sprintf("cannot read the parameter time: %v", err), "take it from time of an item, or leave it out")
		}
		q.From, q.To = t.UnixMicro(), t.UnixMicro()+1
	}
	c.values.Set("q", "identity "+text)
	var found *audit.Record
	err := a.aggregate(c, q, func(ctx context.Context) (store.Stats, error) {
		st, err := set.Search.Search(ctx, q, func(r *audit.Record) error {
			if r.Identity == id {
				found = r
				return errStop
			}
			return nil
		})
		if errors.Is(err, errStop) {
			err = nil
		}
		st.Matched = 0
		if found != nil {
			st.Matched = 1
		}
		return st, err
	})
	if err != nil {
		return err
	}
	if found == nil {
		return &problem{status: http.StatusNotFound, detail: "no event has this identity", hint: "it may have been deleted by retention; check time, or leave it out"}
	}
	c.w.Header().Set("Content-Type", "application/json")
	_, _ = c.w.Write(append(wire.AppendItem(nil, found), '\n'))
	return nil
}
