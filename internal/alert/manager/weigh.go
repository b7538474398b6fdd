package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp/syntax"
	"sync"

	"github.com/prometheus/alertmanager/api/v2/models"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
)

// Bounds of the regular expressions of silences, in what weight counts: each is held compiled, at about fifty bytes for one of these, and is
// compiled again at each start. Ten bytes of a text can say thousands.
const (
	maxSilenceWeight = 20_000  // of one silence
	maxWeight        = 500_000 // of all
)

// weigher refuses silences whose regular expressions would take too much memory and time.
type weigher struct {
	silences *silence.Silences
	posting  sync.Mutex // one at a time: each counts for the next
}

func (s *weigher) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		answer(w, http.StatusRequestEntityTooLarge, "the body cannot be read, or is too large")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.posting.Lock()
	defer s.posting.Unlock()
	if text := s.check(r.Context(), body); text != "" {
		answer(w, http.StatusBadRequest, text)
		return
	}
	next.ServeHTTP(w, r)
}

// check says why a silence is refused. What is wrong with it otherwise is said behind it.
func (s *weigher) check(ctx context.Context, body []byte) string {
	var in models.PostableSilence
	if json.NewDecoder(bytes.NewReader(body)).Decode(&in) != nil {
		return ""
	}
	own := 0
	for _, m := range in.Matchers {
		if m != nil && m.Value != nil && m.IsRegex != nil && *m.IsRegex {
			own += weight(*m.Value)
		}
	}
	if own > maxSilenceWeight {
		return fmt.Sprintf("the silence's regular expressions are too large: %d of %d", own, maxSilenceWeight)
	}
	if own == 0 {
		return ""
	}
	others, _, err := s.silences.Query(ctx)
	if err != nil {
		return "" // it is said behind it
	}
	all := own
	for _, o := range others {
		for _, set := range o.MatcherSets {
			for _, m := range set.Matchers {
				if m.Type == silencepb.Matcher_REGEXP || m.Type == silencepb.Matcher_NOT_REGEXP {
					all += weight(m.Pattern)
				}
			}
		}
	}
	if all > maxWeight {
		return fmt.Sprintf("the regular expressions of all silences together are too large: %d of %d; expired ones count until they are forgotten", all, maxWeight)
	}
	return ""
}

// maxQuery is in bytes: what escapes hide from weight in so many is little.
const maxQuery = 4 << 10

// light reports whether the regular expressions that a query string asks for can be made. A matcher is about as heavy as its text.
func light(query string) bool {
	if len(query) > 3*maxQuery { // percent-encoded
		return false
	}
	values, _ := url.ParseQuery(query) // what cannot be read is not looked at behind it either
	size, all := 0, 0
	for _, of := range values {
		for _, v := range of {
			size, all = size+len(v), all+weight(v)
		}
	}
	return size <= maxQuery && all <= maxSilenceWeight
}

// weight is about how many instructions a regular expression takes; 0 for one that is none.
func weight(expr string) int {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return 0
	}
	return weigh(re)
}

func weigh(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += weigh(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(1, re.Min, re.Max) // the parser allows a thousand, nested ones counted together
	}
	return n
}
