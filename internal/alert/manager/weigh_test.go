package manager

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func silenceOf(expr string) string {
	return fmt.Sprintf(`{"matchers":[{"name":"user","value":%q,"isRegex":true}],"startsAt":"2020-01-01T00:00:00Z","endsAt":"2999-01-01T00:00:00Z","createdBy":"a","comment":"c"}`, expr)
}

// 18 KB of a silence could take 130 MB, again after each start.
func TestSilencesAreWeighed(t *testing.T) {
	t.Parallel()
	m := start(t, Options{})
	names := make([]string, 300)
	for i := range names {
		names[i] = fmt.Sprintf("team-%d-namespace", i)
	}
	for _, tt := range []struct {
		expr string
		want int
	}{
		{"high|critical", 200}, {strings.Join(names, "|"), 200}, {strings.Repeat(".{999}", 3000), 400}, {"((a{10}){10}){10}" + strings.Repeat("x{900}", 25), 400},
		{"(", 400}, {strings.Repeat(".{999}", 8), 200},
	} {
		for _, path := range []string{"/api/v2/silences", "/api/v2/silences/"} {
			call(t, m.Handler(), "POST", path, silenceOf(tt.expr), tt.want)
		}
	}
	body, n := "", 0
	for ; body == "" && n < 100; n++ {
		if w := m.weigher.check(t.Context(), []byte(silenceOf(strings.Repeat(".{999}", 8)))); w != "" {
			body = w
			break
		}
		call(t, m.Handler(), "POST", "/api/v2/silences", silenceOf(strings.Repeat(".{999}", 8)), 200)
	}
	if n < 10 || n >= 100 || !strings.Contains(body, "all silences together") {
		t.Errorf("after %d: %s", n, body)
	}
	call(t, m.Handler(), "POST", "/api/v2/silences", strings.Replace(silenceOf(strings.Repeat(".{999}", 100)), "true", "false", 1), 200) // no expression
}

// A question of 18 KB could take 500 MB and many seconds.
func TestQuestionsAreWeighed(t *testing.T) {
	t.Parallel()
	m := start(t, Options{})
	heavy := strings.Repeat(".{999}", 30)
	for query, want := range map[string]int{
		"filter=" + url.QueryEscape(`severity=~"high|critical"`) + "&filter=" + url.QueryEscape(`user!="("`) + "&receiver=.*": 200,
		"filter=" + url.QueryEscape(`user=~"`+heavy+`"`):                                                                      400,
		"filter=" + url.QueryEscape(`user=~`+heavy):                                                                           400,
		"receiver=" + url.QueryEscape(heavy):                                                                                  400,
		"receiver=" + strings.Repeat("x", maxQuery+1):                                                                         400,
		"receiver=x&receiver=" + strings.Repeat("%78", 2*maxQuery):                                                            400,
	} {
		call(t, m.Handler(), "GET", "/api/v2/alerts?"+query, "", want)
		call(t, m.Handler(), "GET", "/api/v2/alerts/groups?"+query, "", want)
	}
}

func TestWeight(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]int{"": 1, "abc": 4, "a{5}": 15, "(a{5}){3}": 51, "[a-z]": 3, "(": 0} {
		if got := weight(expr); got != want {
			t.Errorf("%s weighs %d, want %d", expr, got, want)
		}
	}
}
