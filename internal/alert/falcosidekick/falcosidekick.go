// Package falcosidekick POSTs findings to Falcosidekick as Falco would have sent them, one a request, so that all that people have set up
// behind it goes on working.
package falcosidekick

import (
	"context"
	"errors"
	"fmt"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
)

// Config says where to POST. Both are wanted.
type Config struct {
	Post   post.Config // the URL is Falcosidekick's own: http://falcosidekick:2801/
	Encode func(alert.Finding) ([]byte, error)
}

// Notifier implements alert.Notifier.
type Notifier struct {
	encode func(alert.Finding) ([]byte, error)
	client *post.Client
	batch  post.Batch
}

// New checks the configuration. Encode makes Falco's JSON of a finding; its errors are permanent. Close frees the connections.
func New(c Config) (*Notifier, error) {
	if c.Encode == nil {
		return nil, errors.New("cannot make falcosidekick receiver: an encoder is wanted")
	}
	client, err := post.New(c.Post)
	if err != nil {
		return nil, fmt.Errorf("cannot make falcosidekick receiver: %w", err)
	}
	return &Notifier{encode: c.Encode, client: client}, nil
}

// Close frees idle connections.
func (n *Notifier) Close() { n.client.Close() }

// Notify implements alert.Notifier. Falcosidekick answers before it has passed an alert on, so what is taken may still get lost there.
func (n *Notifier) Notify(ctx context.Context, findings []alert.Finding) error {
	return n.batch.Each(findings, func(f *alert.Finding) error {
		body, err := n.encode(*f)
		if err != nil {
			return fmt.Errorf("%w: %w", alert.ErrRejected, err)
		}
		_, err = n.client.Do(ctx, post.Request{Body: body})
		return err
	})
}
