package act

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"whodunit/internal/alert/post"
)

func TestWebhook(t *testing.T) {
	code, got := 200, []*http.Request{}
	var body []byte
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		got = append(got, r)
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(code)
	}))
	t.Cleanup(hook.Close)
	a := Action{Name: "tell", Kind: Webhook, Live: true, Secret: "s3cret", Namespaces: []string{"*"}}
	a.Webhook.URL = hook.URL + "/hook?token=hidden"
	b := newBench(t, a)
	b.o.Clusters = nil // it needs none
	b.start()
	b.outcome(event(t, m{"responseStatus": m{"code": 403}}), done, "")
	if len(got) != 1 || got[0].Method != http.MethodPost {
		t.Fatalf("%d requests", len(got))
	}
	at, sum, _ := strings.Cut(strings.TrimPrefix(got[0].Header.Get(post.HeaderSignature), "t="), ",v1=")
	mac := hmac.New(sha256.New, []byte("s3cret"))
	mac.Write([]byte(at + "." + string(body)))
	if sum != hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("signature %q", got[0].Header.Get(post.HeaderSignature))
	}
	var sent struct {
		Version, Action, Cluster string
		Finding                  struct{ Rule string }
	}
	if err := json.Unmarshal(body, &sent); err != nil || sent.Action != "tell" || sent.Cluster != "one" || sent.Finding.Rule != "r-1" {
		t.Errorf("%v: %s", err, body)
	}
	code = 503
	out := b.notify(b.found("r-1", event(t, m{"auditID": "a-2", "objectRef": ref("pods", "team-a", "other")})))
	if len(got) != 2 || len(out) != 1 || !strings.Contains(out[0].Message, ": failed: ") || strings.Contains(out[0].Message, "hidden") {
		t.Errorf("%d requests, got %v", len(got), out)
	}
	b.outcome(event(t, m{"auditID": "a-3", "objectRef": ref("pods", "kube-system", "x")}), refused, "nothing is ever done")
	if len(got) != 2 {
		t.Error("it was told of kube-system")
	}
}

// A rule's finding about nothing but a URL has no namespace.
func TestWebhookWithoutObject(t *testing.T) {
	a := Action{Name: "tell", Kind: Webhook, ClusterScoped: true}
	a.Webhook.URL = "https://hook.example.test/"
	b := newBench(t, a)
	b.outcome(event(t, m{"objectRef": nil, "requestURI": "/metrics"}), dryRun, "nothing was sent to hook.example.test")
}
