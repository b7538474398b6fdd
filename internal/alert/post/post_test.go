package post

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"whodunit/internal/alert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func client(t *testing.T, c Config) *Client {
	t.Helper()
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func TestRequest(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, strings.Join([]string{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), r.Header.Get("Authorization"), r.Header.Get("X-A"), r.Header.Get("X-B"), string(b)}, " "))
	})
	withUser := strings.Replace(url, "://", "://u:p@", 1)
	for _, tt := range []struct {
		name string
		c    Config
		r    Request
		want string
	}{
		{"defaults", Config{URL: url + "/a/?k=v"}, Request{Body: []byte("b")}, "POST /a/?k=v application/json    b"},
		{"path", Config{URL: url + "/a/?k=v"}, Request{Method: "PUT", Path: "_bulk", Type: "application/x-ndjson"}, "PUT /a/_bulk?k=v application/x-ndjson    "},
		{"headers", Config{URL: url, Headers: map[string]string{"x-a": "1", "x-b": "1"}}, Request{Header: http.Header{"X-B": {"2"}}}, "POST / application/json  1 2 "},
		{"token", Config{URL: withUser, Token: "t", Username: "x"}, Request{}, "POST / application/json Bearer t   "},
		{"scheme", Config{URL: url, Token: "t", Scheme: "ApiKey"}, Request{}, "POST / application/json ApiKey t   "},
		{"password", Config{URL: withUser, Username: "x", Password: "y"}, Request{}, "POST / application/json Basic eDp5   "},
		{"user in the URL", Config{URL: withUser}, Request{}, "POST / application/json Basic dTpw   "},
		{"header of the configuration", Config{URL: withUser, Headers: map[string]string{"Authorization": "Own x"}}, Request{}, "POST / application/json Own x   "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := client(t, tt.c).Do(t.Context(), tt.r)
			if err != nil || string(got) != tt.want {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestLargeAnswerIsCut(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, maxAnswer+1<<20))
	})
	if b, err := client(t, Config{URL: url}).Do(t.Context(), Request{}); err != nil || len(b) != maxAnswer {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestBadHeaderIsNotShown(t *testing.T) {
	_, err := client(t, Config{URL: "http://127.0.0.1:1", Headers: map[string]string{"X-Key": "h1dden\n"}}).Do(t.Context(), Request{})
	if err == nil || strings.Contains(err.Error(), "h1dden") || errors.Is(err, alert.ErrRejected) {
		t.Error(err)
	}
}
