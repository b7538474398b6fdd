package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"whodunit/internal/alert"
	"whodunit/internal/alert/alerttest"
	"whodunit/internal/alert/post"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	for name, single := range map[string]bool{"batches": false, "single": true} {
		t.Run(name, func(t *testing.T) {
			alerttest.Notifier(t, alerttest.Options{}, func(c post.Config) (alert.Notifier, error) {
				return NewFindings(Config{Post: c, Secret: "key-" + alerttest.Hidden, Single: single})
			})
		})
	}
	t.Run("groups", func(t *testing.T) {
		alerttest.Receiver(t, alerttest.Options{}, func(c post.Config) (alert.Receiver, error) {
			return NewGroups(Config{Post: c, Secret: "key-" + alerttest.Hidden})
		})
	})
}

type request struct {
	header http.Header
	body   string
}

// record starts a server that keeps what it gets.
func record(t *testing.T) (url string, got *[]request) {
	got = &[]request{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		*got = append(*got, request{r.Header, string(b)})
	}))
	t.Cleanup(srv.Close)
	return srv.URL, got
}

var now = time.Date(2026, 11, 21, 13, 26, 55, 0, time.UTC)

func clock() time.Time { return now }

func (r request) signed(key string) bool {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(fmt.Sprint(now.Unix()) + "." + r.body))
	return r.header.Get(post.HeaderSignature) == fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

func TestFindings(t *testing.T) {
	url, got := record(t)
	fs := []alert.Finding{alerttest.Finding(t, "one"), alerttest.Finding(t, alerttest.Hostile)}
	for _, single := range []bool{false, false, true} {
		w, err := NewFindings(Config{Post: post.Config{URL: url, Now: clock}, Secret: "s3cret", Single: single})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := w.Notify(t.Context(), fs); err != nil {
			t.Fatal(err)
		}
	}
	r := *got
	if len(r) != 4 {
		t.Fatalf("%d requests", len(r))
	}
	var body struct {
		Version  string
		Findings []struct{ Cluster, Kind, Rule, Message string }
	}
	if err := json.Unmarshal([]byte(r[0].body), &body); err != nil {
		t.Fatal(err)
	}
	if len(body.Findings) != 2 || body.Version != "1" || body.Findings[0].Cluster != "prodone" || body.Findings[0].Kind != "Finding" ||
		body.Findings[1].Message != strings.ToValidUTF8("somebody "+alerttest.Hostile, "\ufffd\ufffd") {
		t.Errorf("body %s", r[0].body)
	}
	if !strings.HasPrefix(r[2].body, `{"cluster":"prodone","kind":"Finding"`) {
		t.Errorf("single: body %s", r[2].body)
	}
	for i := range r {
		if !r[i].signed("s3cret") || r[i].header.Get("Content-Type") != "application/json" {
			t.Errorf("request %d: header %v", i, r[i].header)
		}
	}
	if d := func(i int) string { return r[i].header.Get(HeaderDelivery) }; d(0) == "" || d(0) != d(1) || d(0) == d(2) || d(2) == d(3) {
		t.Error("the same findings, and no others, have the same delivery header")
	}
}

func TestGroups(t *testing.T) {
	url, got := record(t)
	w, err := NewGroups(Config{Post: post.Config{URL: url, Now: clock}, Secret: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	g := alerttest.Group("text")
	for range 2 {
		if err := w.Notify(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	g.Alerts = g.Alerts[1:]
	if err := w.Notify(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	type document struct {
		Version, Receiver, GroupKey, Status string
		GroupLabels                         map[string]string
		Alerts                              []struct {
			Status              string
			Labels, Annotations map[string]string
			StartsAt, EndsAt    time.Time
			Link                string
		}
	}
	var docs []document
	for i, r := range *got {
		var d document
		if err := json.Unmarshal([]byte(r.body), &d); err != nil || !r.signed("s3cret") {
			t.Fatalf("request %d: %v, header %v", i, err, r.header)
		}
		docs = append(docs, d)
	}
	if d := docs[0]; d.Version != "1" || d.Receiver != "ops" || d.Status != "firing" || len(d.Alerts) != 2 || d.Alerts[0].Labels["user"] != "utext" ||
		d.Alerts[0].Status != "firing" || d.Alerts[1].Status != "resolved" || d.Alerts[0].Link != "https://whodunit.example/x" || !d.Alerts[1].EndsAt.Equal(g.Alerts[0].EndsAt) {
		t.Errorf("%+v", d)
	}
	if docs[2].Status != "resolved" {
		t.Errorf("%+v", docs[2])
	}
	d := func(i int) string { return (*got)[i].header.Get(HeaderDelivery) }
	if d(0) == "" || d(0) != d(1) || d(0) == d(2) {
		t.Error("the same group, and no other, has the same delivery header")
	}
}

func TestSecretFileIsMissing(t *testing.T) {
	w, err := NewFindings(Config{Post: post.Config{URL: "http://127.0.0.1:1"}, SecretFile: t.TempDir() + "/missing"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	err = w.Notify(t.Context(), []alert.Finding{alerttest.Finding(t, "x")})
	if err == nil || errors.Is(err, alert.ErrRejected) || !strings.Contains(err.Error(), "cannot read webhook secret") {
		t.Error(err)
	}
}
