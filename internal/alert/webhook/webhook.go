// Package webhook POSTs findings, or groups of alerts, as JSON, signed where a secret is shared.
package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
)

// HeaderDelivery is the same when the same is sent again: a hash over the findings' ids, or over the body with a group of alerts.
const HeaderDelivery = "X-Whodunit-Delivery"

// Config says where and how to POST. What is wanted of Post is its URL.
type Config struct {
	Post       post.Config
	SecretFile string // shared secret for post.HeaderSignature; read again for each request
	Secret     string // used where SecretFile is ""
	Single     bool   // one finding a request, the document itself as the body
}

// sender is what both kinds have in common.
type sender struct {
	c      Config
	client *post.Client
}

func newSender(c Config) (sender, error) {
	client, err := post.New(c.Post)
	if err != nil {
		return sender{}, fmt.Errorf("cannot make webhook: %w", err)
	}
	if c.Post.Now == nil {
		c.Post.Now = time.Now
	}
	return sender{c, client}, nil
}

// Close frees idle connections.
func (s *sender) Close() { s.client.Close() }

func (s *sender) send(ctx context.Context, body []byte, delivery []byte) error {
	h := http.Header{HeaderDelivery: {hex.EncodeToString(delivery[:16])}}
	key, err := post.Secret(s.c.Secret, s.c.SecretFile)
	if err != nil {
		return fmt.Errorf("cannot read webhook secret: %w", err)
	}
	post.Sign(h, key, s.c.Post.Now(), body)
	_, err = s.client.Do(ctx, post.Request{Header: h, Body: body})
	return err
}

// Findings POSTs findings: {"version":"1","findings":[…]}, each an alert.Finding.Document. It implements alert.Notifier.
type Findings struct {
	sender
	batch post.Batch
}

// NewFindings checks the configuration. Close frees the connections.
func NewFindings(c Config) (*Findings, error) {
	s, err := newSender(c)
	if err != nil {
		return nil, err
	}
	return &Findings{sender: s}, nil
}

// Notify implements alert.Notifier.
func (w *Findings) Notify(ctx context.Context, findings []alert.Finding) error {
	if !w.c.Single {
		docs := make([]json.RawMessage, len(findings))
		for i := range findings {
			docs[i] = findings[i].Document()
		}
		body, err := json.Marshal(struct {
			Version  string            `json:"version"`
			Findings []json.RawMessage `json:"findings"`
		}{"1", docs})
		if err != nil {
			return fmt.Errorf("%w: %w", alert.ErrRejected, err)
		}
		return w.send(ctx, body, delivery(findings))
	}
	return w.batch.Each(findings, func(f *alert.Finding) error { return w.send(ctx, f.Document(), delivery([]alert.Finding{*f})) })
}

func delivery(findings []alert.Finding) []byte {
	h := sha256.New()
	for i := range findings {
		fmt.Fprintf(h, "%s\x00", findings[i].ID)
	}
	return h.Sum(nil)
}

// Groups POSTs groups of alerts, each an alert.Group.Document. It implements alert.Receiver.
type Groups struct{ sender }

// NewGroups checks the configuration. Single says nothing here.
func NewGroups(c Config) (*Groups, error) {
	s, err := newSender(c)
	if err != nil {
		return nil, err
	}
	return &Groups{s}, nil
}

// Notify implements alert.Receiver.
func (w *Groups) Notify(ctx context.Context, g alert.Group) error {
	body, err := g.Document(w.c.Post.Now())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	return w.send(ctx, body, sum[:])
}
