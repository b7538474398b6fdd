package cli

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/matcher/parse"
	"github.com/prometheus/alertmanager/pkg/labels"
)

// Labels that alerts of findings have: alertname is the rule's title.
const (
	labelName     = "alertname"
	labelRule     = "rule"
	labelSeverity = "severity"
)

// matchers reads Alertmanager's matchers, one an argument. The first may be a rule's id alone. Values need no quotes: the shell has
// taken them.
func matchers(args []string) (labels.Matchers, error) {
	var out labels.Matchers
	for i, a := range args {
		m, err := labels.ParseMatcher(a)
		if err != nil {
			m, err = parse.Matcher(a) // names beyond ASCII
		}
		if err != nil && i == 0 && a != "" && !strings.ContainsAny(a, "=~!{}\",") {
			m, err = labels.NewMatcher(labels.MatchEqual, labelRule, a)
		}
		if err != nil {
			return nil, fmt.Errorf(`cannot read matcher %q: NAME=VALUE, NAME!=VALUE, NAME=~REGEXP or NAME!~REGEXP is wanted, such as 'severity=~"high|critical"'`, a)
		}
		out = append(out, m)
	}
	return out, nil
}

// covers reports whether all matchers match the labels.
func covers(ms labels.Matchers, set map[string]string) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(set[m.Name]) })
}

// silence is one as Alertmanager's API has it.
type silence struct {
	ID        string           `json:"id,omitempty"`
	Matchers  []silenceMatcher `json:"matchers"`
	StartsAt  time.Time        `json:"startsAt"`
	EndsAt    time.Time        `json:"endsAt"`
	CreatedBy string           `json:"createdBy"`
	Comment   string           `json:"comment"`
	Status    *silenceStatus   `json:"status,omitempty"`
}

type silenceStatus struct {
	State string `json:"state"` // active, pending, expired
}

type silenceMatcher struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	IsRegex bool   `json:"isRegex"`
	IsEqual *bool  `json:"isEqual,omitempty"` // nil: true
}

func toSilence(ms labels.Matchers) []silenceMatcher {
	var out []silenceMatcher
	for _, m := range ms {
		equal := m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
		out = append(out, silenceMatcher{m.Name, m.Value, m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp, &equal})
	}
	return out
}

func (m silenceMatcher) matcher() (*labels.Matcher, error) {
	kind := labels.MatchEqual
	switch equal := m.IsEqual == nil || *m.IsEqual; {
	case equal && m.IsRegex:
		kind = labels.MatchRegexp
	case !equal && m.IsRegex:
		kind = labels.MatchNotRegexp
	case !equal:
		kind = labels.MatchNotEqual
	}
	return labels.NewMatcher(kind, m.Name, m.Value)
}

// words writes the matchers as people do.
func (s *silence) words() string {
	var out []string
	for _, m := range s.Matchers {
		if lm, err := m.matcher(); err == nil {
			out = append(out, lm.String())
		} else {
			out = append(out, m.Name+" (cannot be read)")
		}
	}
	return strings.Join(out, " ")
}

// quiets reports whether the silence matches the labels and is active.
func (s *silence) quiets(set map[string]string) bool {
	var ms labels.Matchers
	for _, m := range s.Matchers {
		lm, err := m.matcher()
		if err != nil {
			return false
		}
		ms = append(ms, lm)
	}
	return s.state() == "active" && len(ms) > 0 && covers(ms, set)
}

func (s *silence) state() string {
	if s.Status == nil {
		return ""
	}
	return s.Status.State
}

func (s alertsClient) silences(ctx context.Context) ([]silence, error) {
	var out []silence
	err := s.call(ctx, http.MethodGet, "/api/v2/silences", nil, &out)
	return out, err
}

// labelWords is a set of labels on one line, without those left out.
func labelWords(set map[string]string, without ...string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(set)) {
		if slices.Contains(without, k) {
			continue
		}
		v := set[k]
		if v == "" || strings.ContainsAny(v, " \"") {
			v = strconv.Quote(v)
		}
		out = append(out, k+"="+v)
	}
	return strings.Join(out, " ")
}
