package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// Alerts is what the routes about alerts ask. Where a part is nil, its routes answer 404 with the hint Elsewhere. All parts are safe for
// concurrent use.
type Alerts struct {
	// V2 is Alertmanager's own API, for requests that are authenticated already. It is given the path as it came, with /api/v2/.
	V2 http.Handler
	// Elsewhere says why a part is missing and where people find it, such as "alerts go to the Alertmanager at am.example:9093:
	// silence them there". "": that alerts are not set up. It is shown to everybody who may read, so it holds no secret.
	Elsewhere string
	// List gives the alerts that are going on, in any order.
	List func(ctx context.Context) ([]AlertStatus, error)
	// Receivers tells how each integration of each receiver fares, in any order.
	Receivers func() []ReceiverStatus
	// Test makes an alert as the rule would, sends it past grouping and waiting to every receiver that it is routed to, and tells what
	// came of it. An error that wraps ErrUnknownRule is answered 404. That a receiver failed is no error.
	Test func(ctx context.Context, rule string) (TestResult, error)
}

// ErrUnknownRule is wrapped by the error of Alerts.Test for a rule that is not loaded.
var ErrUnknownRule = errors.New("no rule has this id")

// AlertStatus is one alert that is going on. All text in it is hostile.
type AlertStatus struct {
	Fingerprint string            `json:"fingerprint"` // of the labels, as Alertmanager makes it
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Count       uint64            `json:"count"` // of findings
	StartsAt    time.Time         `json:"starts_at"`
	EndsAt      time.Time         `json:"ends_at,omitzero"` // it is over then unless another finding comes
	FirstEvent  time.Time         `json:"first_event,omitzero"`
	LastEvent   time.Time         `json:"last_event,omitzero"`
	Link        string            `json:"link,omitempty"`         // its findings
	Silenced    bool              `json:"silenced"`               // by a silence; true whenever SilencedBy has one
	SilencedBy  []string          `json:"silenced_by,omitempty"`  // ids of silences
	InhibitedBy []string          `json:"inhibited_by,omitempty"` // fingerprints of alerts
	Receivers   []string          `json:"receivers,omitempty"`    // that it is routed to
}

// ReceiverStatus is how one integration of a receiver fares since the server started. LastError holds no secret.
type ReceiverStatus struct {
	Receiver     string    `json:"receiver"`
	Kind         string    `json:"kind"` // webhook, slack, email, …
	OK           int64     `json:"ok_total"`
	Failed       int64     `json:"failed_total"`
	LastOK       time.Time `json:"last_ok,omitzero"`
	LastFailure  time.Time `json:"last_failure,omitzero"`
	LastError    string    `json:"last_error,omitempty"`
	FailingSince time.Time `json:"failing_since,omitzero"` // zero: the last notification arrived, or there was none
}

// TestResult is what became of a test alert.
type TestResult struct {
	Labels     map[string]string `json:"labels"`
	Routes     []string          `json:"routes"`             // that match, as people know them
	MutedBy    []string          `json:"muted_by,omitempty"` // silences, time intervals or alerts that would keep a real alert quiet
	Deliveries []Delivery        `json:"deliveries"`
}

// Delivery is the attempt to hand a test alert to one integration of a receiver.
type Delivery struct {
	Receiver string  `json:"receiver"`
	Kind     string  `json:"kind"`
	OK       bool    `json:"ok"`
	Error    string  `json:"error,omitempty"` // without secrets
	Seconds  float64 `json:"seconds"`         // that it took
}

// absent answers for a part of Alerts that is nil.
func (a *API) absent(what string) error {
	return &problem{status: http.StatusNotFound, detail: "this server has no " + what,
		hint: cmp.Or(a.o.Alerts.Elsewhere, "alerts are not set up: see alerts in docs/reference/config.md")}
}

func (a *API) alerts(c *call) error {
	if a.o.Alerts.List == nil {
		return a.absent("list of alerts")
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.o.QueryTimeout)
	defer cancel()
	items, err := a.o.Alerts.List(ctx)
	if err != nil {
		return err
	}
	items = slices.Clone(items)
	for i := range items {
		items[i].Silenced = items[i].Silenced || len(items[i].SilencedBy) > 0
	}
	slices.SortFunc(items, func(x, y AlertStatus) int {
		return cmp.Or(y.StartsAt.Compare(x.StartsAt), cmp.Compare(x.Fingerprint, y.Fingerprint))
	})
	return c.reply(http.StatusOK, map[string]any{"items": list(items)})
}

// receivers has those first that fail, the longest failing one leading.
func (a *API) receivers(c *call) error {
	if a.o.Alerts.Receivers == nil {
		return a.absent("receivers")
	}
	items := slices.Clone(a.o.Alerts.Receivers())
	slices.SortFunc(items, func(x, y ReceiverStatus) int {
		if xf, yf := x.FailingSince.IsZero(), y.FailingSince.IsZero(); xf != yf {
			return map[bool]int{true: 1, false: -1}[xf]
		}
		return cmp.Or(x.FailingSince.Compare(y.FailingSince), cmp.Compare(x.Receiver, y.Receiver), cmp.Compare(x.Kind, y.Kind))
	})
	return c.reply(http.StatusOK, map[string]any{"items": list(items)})
}

func (a *API) testAlert(c *call) error {
	var in struct {
		Rule string `json:"rule"`
	}
	if err := c.body(&in); err != nil {
		return err
	}
	if a.o.Alerts.Test == nil {
		return a.absent("receivers to test")
	}
	if in.Rule == "" {
		return bad("rule is missing", `send {"rule": "ID"}; GET /api/v1/rules lists them`)
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.o.QueryTimeout)
	defer cancel()
	res, err := a.o.Alerts.Test(ctx, in.Rule)
	failed := 0
	for _, d := range res.Deliveries {
		if !d.OK {
			failed++
		}
	}
	attrs := []any{"user", c.who.Name, "address", c.peer(), "rule", clip(in.Rule, 200), "deliveries", len(res.Deliveries), "failed", failed}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	a.log.Info("test alert", attrs...)
	if err != nil {
		return err
	}
	res.Routes, res.Deliveries = list(res.Routes), list(res.Deliveries)
	return c.reply(http.StatusOK, res)
}

// list is never null in JSON.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
