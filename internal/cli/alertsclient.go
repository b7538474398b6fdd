package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"whodunit/internal/config"
	"whodunit/internal/store/remote"
)

// alertsTimeout bounds one request; a test alert waits for every receiver.
const alertsTimeout = 90 * time.Second

// alertsClient asks a server about alerts: its own API under /api/v1/, and Alertmanager's under /api/v2/.
type alertsClient struct{ *remote.Client }

// withAlerts calls f with a client of --server, or of $WHODUNIT_SERVER.
func (c *cmdline) withAlerts(t *target, f func(alertsClient) error) error {
	if t.server == "" {
		t.server = c.Getenv("WHODUNIT_SERVER")
	}
	if t.server == "" {
		return fmt.Errorf("alerts are asked of a running server: name it with --server or $WHODUNIT_SERVER, such as https://%s", config.Default().Server.Listen)
	}
	o, err := c.serverOptions(t)
	if err != nil {
		return err
	}
	client, err := remote.New(o)
	if err != nil {
		return err
	}
	defer client.Close()
	return f(alertsClient{client})
}

// call is remote.Client's, with an end.
func (s alertsClient) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, alertsTimeout, errors.New("it did not answer within "+alertsTimeout.String()))
	defer cancel()
	return loginHint(s.Call(ctx, method, path, in, out))
}
