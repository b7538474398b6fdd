// Package elastic writes findings to Elasticsearch or OpenSearch: a document each, in an index for each day of the events, under an id of
// its own, so that the same findings once more change nothing. It is for people who look at alerts in Kibana or Dashboards, K8sCop's users
// first among them.
package elastic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
)

// Form says what a document looks like.
type Form string

// The forms.
const (
	K8sCop Form = "k8scop"  // a_type, timestamp, description, index, user and so on
	Whole  Form = "finding" // the finding itself, docs/reference/finding.md, with @timestamp
)

// maxBody is of one request, in bytes. A document that is larger is sent alone.
const maxBody = 5 << 20

// Config says where to write. Post.URL and Prefix are wanted. An API key is a token under the scheme ApiKey.
type Config struct {
	Post   post.Config
	Prefix string // of the indices: <prefix>-YYYY.MM.DD, the day of the event in UTC
	Form   Form   // "": K8sCop
}

// Notifier implements alert.Notifier. It speaks to Elasticsearch from 7 on and to OpenSearch.
type Notifier struct {
	c      Config
	client *post.Client
	batch  post.Batch
}

// New checks the configuration. Close frees the connections.
func New(c Config) (*Notifier, error) {
	if c.Form == "" {
		c.Form = K8sCop
	}
	if c.Form != K8sCop && c.Form != Whole {
		return nil, fmt.Errorf("cannot make elastic receiver: form %q: %s or %s is expected", c.Form, K8sCop, Whole)
	}
	if err := checkPrefix(c.Prefix); err != nil {
		return nil, fmt.Errorf("cannot make elastic receiver: %w", err)
	}
	client, err := post.New(c.Post)
	if err != nil {
		return nil, fmt.Errorf("cannot make elastic receiver: %w", err)
	}
	return &Notifier{c: c, client: client}, nil
}

// checkPrefix refuses what the server would refuse as an index' name.
func checkPrefix(s string) error {
	switch {
	case s == "" || len(s) > 200:
		return errors.New("index prefix: 1 to 200 bytes are expected")
	case s != strings.ToLower(s):
		return fmt.Errorf("index prefix %q: lower case is expected", s)
	case strings.ContainsAny(s, "\\/*?\"<>|,#: \x7f") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) || strings.ContainsAny(s[:1], "-_+."):
		return fmt.Errorf(`index prefix %q: it may hold none of \/*?"<>|,#: or white space, and not begin with - _ + or a dot`, s)
	}
	return nil
}

// Close frees idle connections.
func (n *Notifier) Close() { n.client.Close() }

// Notify implements alert.Notifier. What the server has no room for now is sent again by the next call, alone.
func (n *Notifier) Notify(ctx context.Context, findings []alert.Finding) error {
	open := n.batch.Open(findings)
	var body []byte
	first := 0
	for i := range open {
		item, err := n.item(&open[i])
		if err != nil {
			return err
		}
		if len(body) > 0 && len(body)+len(item) > maxBody {
			if err := n.bulk(ctx, body, open[first:i]); err != nil {
				return err
			}
			body, first = nil, i
		}
		body = append(body, item...)
	}
	if len(body) > 0 {
		if err := n.bulk(ctx, body, open[first:]); err != nil {
			return err
		}
	}
	return n.batch.End(findings)
}

// item is a document with the line before it that says where it goes.
func (n *Notifier) item(f *alert.Finding) ([]byte, error) {
	var action struct {
		Create struct {
			Index string `json:"_index"`
			ID    string `json:"_id"`
		} `json:"create"`
	}
	action.Create.Index, action.Create.ID = n.c.Prefix+f.Time.UTC().Format("-2006.01.02"), f.ID
	line, err := json.Marshal(action)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot encode finding %s: %w", alert.ErrRejected, f.ID, err)
	}
	doc := whole(f)
	if n.c.Form == K8sCop {
		if doc, err = json.Marshal(newDocument(f)); err != nil {
			return nil, fmt.Errorf("%w: cannot encode finding %s: %w", alert.ErrRejected, f.ID, err)
		}
	}
	return append(append(append(line, '\n'), doc...), '\n'), nil
}

// result is what the server says of one document.
type result struct {
	Status int `json:"status"`
	Error  struct {
		Type string `json:"type"`
	} `json:"error"`
}

func (n *Notifier) bulk(ctx context.Context, body []byte, findings []alert.Finding) error {
	b, err := n.client.Do(ctx, post.Request{Path: "_bulk", Type: "application/x-ndjson", Body: body})
	if err != nil {
		return err
	}
	var answer struct {
		Items []struct {
			Create result `json:"create"`
		} `json:"items"`
	}
	if err := json.Unmarshal(b, &answer); err != nil || len(answer.Items) != len(findings) {
		return fmt.Errorf("%s does not answer as Elasticsearch does: %d results for %d documents", n.client.Host(), len(answer.Items), len(findings))
	}
	var again error
	left := 0
	for i := range answer.Items {
		r := &answer.Items[i].Create
		switch {
		case r.Status >= 200 && r.Status < 300, r.Status == http.StatusConflict: // or it is there already
			n.batch.Done(findings[i].ID, nil)
		case r.refused():
			n.batch.Done(findings[i].ID, fmt.Errorf("%w: %s answers %d (%s)", alert.ErrRejected, n.client.Host(), r.Status, r.kind()))
		default:
			again, left = fmt.Errorf("%d (%s)", r.Status, r.kind()), left+1
		}
	}
	if again != nil {
		return fmt.Errorf("%s does not take %d of %d documents: the last with %w", n.client.Host(), left, len(findings), again)
	}
	return nil
}

// refused reports whether the document is wrong, not the state of the server: that no further index may be made now
// (validation_exception) is no fault of the document.
func (r *result) refused() bool {
	switch r.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return r.Error.Type != "validation_exception"
	}
	return false
}

// kind is the server's word for the error. Its text, which quotes the document, is not shown.
func (r *result) kind() string {
	if r.Error.Type == "" || len(r.Error.Type) > 100 || strings.Trim(r.Error.Type, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "no reason"
	}
	return r.Error.Type
}
