package webhook

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unsafe"

	"whodunit/internal/audit"
	"whodunit/internal/envelope"
	"whodunit/internal/source"
)

// answer is what a request gets. The API server looks at the code and Retry-After alone; the text is for people.
type answer struct {
	code   int
	reason string // metric label
	text   string
	retry  bool // with Retry-After: 1
}

func refuse(code int, reason, format string, args ...any) *answer {
	return &answer{code: code, reason: reason, text: fmt.Sprintf(format, args...)}
}

// again is for what may go well a second later.
func again(code int, reason, format string, args ...any) *answer {
	a := refuse(code, reason, format, args...)
	a.retry = true
	return a
}

const help = `whodunit takes Kubernetes audit events here.
POST an EventList of audit.k8s.io/v1 to /clusters/NAME, or to any other path for the default cluster.
In the API server's --audit-webhook-config-file: clusters[].cluster.server: https://THIS-ADDRESS/clusters/NAME
`

// ServeHTTP answers one request. Any server may call it; Run need not have a listener of its own.
func (s *Source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	a := s.answer(w, r, start)
	if a.retry {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(a.code)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(a.text + "\n")) // a peer that has gone sends it all again
	}
	s.cfg.Metrics.answered(a)
	s.cfg.Metrics.seconds.Observe(time.Since(start).Seconds())
}

func (s *Source) answer(w http.ResponseWriter, r *http.Request, start time.Time) answer {
	who, ok := s.cfg.Authenticate(r)
	if !ok {
		w.Header().Add("WWW-Authenticate", `Bearer realm="whodunit"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="whodunit", charset="UTF-8"`)
		return *refuse(http.StatusUnauthorized, "unauthenticated", "a client certificate, a bearer token or a name and password is needed")
	}
	if r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		return answer{code: http.StatusOK, reason: "help", text: help}
	}
	cluster, bad := s.check(w.Header(), r)
	if bad != nil {
		return *bad
	}
	emit, ok := s.begin()
	if !ok {
		return *again(http.StatusServiceUnavailable, "not_running", "not running now")
	}
	defer s.busy.Done()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return *again(http.StatusTooManyRequests, "requests_in_flight", "more than %d requests at once", s.cfg.MaxRequests)
	}
	ctx, cancel := context.WithDeadline(r.Context(), start.Add(s.cfg.AnswerWithin))
	defer cancel()
	defer context.AfterFunc(s.hard, cancel)()
	// A peer that sends slowly holds memory: its time is the same as everybody's. Not every server has deadlines.
	_ = http.NewResponseController(w).SetReadDeadline(start.Add(s.cfg.AnswerWithin))
	if a := s.take(ctx, w, r, cluster, s.origin(r, who), emit); a != nil {
		return *a
	}
	return answer{code: http.StatusOK, reason: "ok"}
}

// check refuses what is no post of audit events to a cluster, before anything is read.
func (s *Source) check(h http.Header, r *http.Request) (cluster string, bad *answer) {
	if r.Method != http.MethodPost {
		h.Set("Allow", "POST")
		if r.URL.Path == "/" {
			h.Set("Allow", "GET, HEAD, POST")
		}
		return "", refuse(http.StatusMethodNotAllowed, "method", "audit events come by POST")
	}
	cluster, ok := clusterOf(r.URL.Path, s.cfg.Cluster)
	if !ok {
		return "", refuse(http.StatusBadRequest, "cluster", "wanted is /clusters/NAME with a name of %s", clusterForm)
	}
	if t := r.Header.Get("Content-Type"); !jsonType(t) {
		h.Set("Accept", "application/json")
		return "", refuse(http.StatusUnsupportedMediaType, "media_type", "Content-Type is %.100q; wanted is application/json", t)
	}
	if r.ContentLength == 0 && r.ProtoMajor == 1 && r.Header.Get("Content-Length") == "" {
		return "", refuse(http.StatusLengthRequired, "length", "there is no body: Content-Length or chunked encoding is needed")
	}
	return cluster, nil
}

func jsonType(header string) bool {
	if header == "" {
		return true
	}
	t, _, err := mime.ParseMediaType(header)
	return err == nil && slices.Contains([]string{"application/json", "application/x-ndjson", "application/ndjson", "application/jsonl"}, t)
}

const clusterForm = "1 to 253 letters, digits, dots, dashes and underscores, not . or .."

func validCluster(name string) bool {
	if name == "" || len(name) > 253 || name == "." || name == ".." {
		return false
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// clusterOf takes the cluster from the path. The API server drops the query and a slash at the end of its URL.
func clusterOf(path, def string) (name string, ok bool) {
	name, ok = strings.CutPrefix(path, "/clusters")
	if !ok || name != "" && name[0] != '/' {
		return def, true
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "/"), "/")
	return name, validCluster(name)
}

// take reads, decodes and emits one body; nil means that all of it is durable.
func (s *Source) take(ctx context.Context, w http.ResponseWriter, r *http.Request, cluster string, origin audit.Origin, emit source.Emit) *answer {
	body, release, bad := s.read(r)
	defer release()
	if bad != nil {
		if bad.code == http.StatusUnsupportedMediaType {
			w.Header().Set("Accept-Encoding", "gzip, zstd")
		}
		if bad.code == http.StatusRequestEntityTooLarge {
			s.reject(origin, max(r.ContentLength, int64(len(body))), envelope.Reject{Raw: body, Err: fmt.Errorf("%w: %s", envelope.ErrTooLarge, bad.text)})
		}
		return bad
	}
	s.cfg.Metrics.bytes.Add(float64(len(body)))
	result, err := s.cfg.Decode(cluster, body)
	if err != nil {
		s.rejectAll(origin, result)
		return refuse(http.StatusBadRequest, envelope.Reason(err), "%v", err)
	}
	const each = int64(unsafe.Sizeof(audit.Event{}))
	decoded := int64(len(result.Events)) * each // tiny events take more memory than their bytes
	if room := s.cfg.MaxInFlightBytes - int64(cap(body)); decoded > room {
		// It would never find room: to send it again is of no use.
		err := fmt.Errorf("%w: %d, and there is room for %d beside their text", envelope.ErrTooMany, len(result.Events), room/each)
		s.reject(origin, int64(len(body)), envelope.Reject{Raw: body, Err: err})
		return refuse(http.StatusRequestEntityTooLarge, envelope.Reason(err), "%v", err)
	}
	if !s.bytes.acquire(decoded) {
		return s.readFailed(ctx, errNoBudget)
	}
	defer s.bytes.release(decoded)
	for _, b := range (audit.Batch{Origin: origin, Events: result.Events}).Split() {
		n := len(b.Events)
		if err := emit(ctx, b); err != nil {
			return s.emitFailed(ctx, err)
		}
		s.cfg.Metrics.events.Add(float64(n))
	}
	s.rejectAll(origin, result) // not earlier: a body that comes again would be kept again
	if n := len(result.Rejects) + result.Omitted; n > 0 {
		return refuse(http.StatusOK, "partly", "%d events taken, %d refused; the first: %v", len(result.Events), n, result.Rejects[0].Err)
	}
	return nil
}

func (s *Source) emitFailed(ctx context.Context, err error) *answer {
	switch {
	case errors.Is(err, source.ErrPressure):
		return again(http.StatusServiceUnavailable, "pressure", "no room now")
	case ctx.Err() != nil:
		return again(http.StatusServiceUnavailable, "timeout", "the events could not be made durable in time")
	}
	s.cfg.Logger.Debug("cannot make events durable", "err", err)
	return again(http.StatusServiceUnavailable, "emit", "the events could not be made durable")
}

func (s *Source) rejectAll(origin audit.Origin, result envelope.Result) {
	for _, x := range result.Rejects {
		s.reject(origin, int64(len(x.Raw)), x)
	}
	if result.Omitted > 0 {
		s.reject(origin, 0, envelope.Reject{Err: fmt.Errorf("%w: %d more pieces of one body", audit.ErrNotAudit, result.Omitted)})
	}
}

func (s *Source) reject(origin audit.Origin, size int64, x envelope.Reject) {
	const keep = 64 << 10 // see source.Rejected; cloned, as the whole body would stay alive otherwise
	s.cfg.Reject(source.Rejected{
		Origin: origin, Reason: envelope.Reason(x.Err), Err: x.Err, Size: size,
		Bytes: slices.Clone(x.Raw[:min(len(x.Raw), keep)]),
	})
}
