package manager

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/common/model"
)

// posted is what others post to the API. It shares memory and groups with the alerts of findings, which must not go without for it: so it
// is bounded, and it can neither change nor end one of theirs.
type posted struct {
	mem.AlertStoreCallback
	most, mostBytes int

	putting sync.Mutex // one puts alerts, so that the store's calls tell of it
	post    bool       // it is a post; under putting

	mu    sync.Mutex
	sizes map[model.Fingerprint]int // of posted alerts, in bytes
	bytes int
}

// PostStore implements mem.AlertStoreCallback.
func (p *posted) PostStore(a *amalert.Alert, existing bool) {
	p.AlertStoreCallback.PostStore(a, existing)
	p.forget(a)
	if p.post {
		p.mu.Lock()
		defer p.mu.Unlock()
		n := size(a.Labels) + size(a.Annotations) + len(a.GeneratorURL)
		p.sizes[a.Fingerprint()] = n
		p.bytes += n
	}
}

// PostDelete implements mem.AlertStoreCallback.
func (p *posted) PostDelete(a *amalert.Alert) {
	p.AlertStoreCallback.PostDelete(a)
	p.forget(a)
}

func (p *posted) forget(a *amalert.Alert) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fp := a.Fingerprint()
	p.bytes -= p.sizes[fp]
	delete(p.sizes, fp)
}

func size(set model.LabelSet) (n int) {
	for k, v := range set {
		n += len(k) + len(v)
	}
	return n
}

// serve hands a post on unless it is one too many. known asks the store for an alert.
func (p *posted) serve(w http.ResponseWriter, r *http.Request, next http.Handler, known func(model.Fingerprint) (*amalert.Alert, error)) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		answer(w, http.StatusRequestEntityTooLarge, "the body cannot be read, or is too large")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.putting.Lock()
	defer p.putting.Unlock()
	if status, text := p.check(body, known); text != "" {
		answer(w, status, text)
		return
	}
	p.post = true
	defer func() { p.post = false }()
	next.ServeHTTP(w, r)
}

// check says why a post is refused. What cannot be read here cannot be read behind it either.
func (p *posted) check(body []byte, known func(model.Fingerprint) (*amalert.Alert, error)) (status int, text string) {
	var in []struct {
		Labels, Annotations map[string]string
		GeneratorURL        string
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil {
		return http.StatusBadRequest, "no list of alerts: " + err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	count, total := len(p.sizes), p.bytes
	for i := range in {
		labels := labelSet(in[i].Labels)
		fp := labels.Fingerprint()
		have, mine := p.sizes[fp]
		if _, err := known(fp); err == nil && !mine {
			return http.StatusForbidden, fmt.Sprintf("alert %.100q is made of findings: nobody else changes or ends it", labels[model.AlertNameLabel])
		}
		if !mine {
			count++
		}
		total += size(labels) + size(labelSet(in[i].Annotations)) + len(in[i].GeneratorURL) - have
	}
	if count > p.most || total > p.mostBytes {
		return http.StatusTooManyRequests, fmt.Sprintf("too many alerts: %d of %d bytes in all are allowed", p.most, p.mostBytes)
	}
	return 0, ""
}

// answer is an error as Alertmanager's API has it.
func answer(w http.ResponseWriter, status int, text string) {
	b, _ := json.Marshal(text) //nolint:errchkjson // a string
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client is gone
}
