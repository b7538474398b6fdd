package explain

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// Requests selects one event of every request: ResponseComplete, or Panic, which replaces it. A request that failed
// authentication (401) has a single event, of stage ResponseStarted
// (k8s.io/apiserver/pkg/endpoints/filters/audit.go, WithFailedAuthenticationAudit), so that is taken for those alone. A watch that is still open is not counted
// before it ends.
func Requests() match.Expr {
	return match.And{
		match.Or{
			equal("stage", string(audit.StageResponseComplete), string(audit.StagePanic)),
			match.And{equal("stage", string(audit.StageResponseStarted)), equal("responseStatus.code", "401")},
		},
		notFinding(),
	}
}

// Failure is how often one client was answered with an error of one kind.
type Failure struct {
	User     string `json:"user"`
	Agent    string `json:"agent"`
	Resource string `json:"resource"` // empty for requests that are not about an object
	Code     string `json:"code"`
	Count    int64  `json:"count"`
}

// Client is what one client asked of the API server.
type Client struct {
	User  string  `json:"user"`
	Agent string  `json:"agent"`
	Count int64   `json:"count"`
	Share float64 `json:"share"` // of all requests, 0 to 1
	Most  []Call  `json:"most"`  // its most frequent calls, at most three
}

// Call is one verb on one resource.
type Call struct {
	Verb     string `json:"verb"`
	Resource string `json:"resource"`
	Count    int64  `json:"count"`
}

func narrowed(base store.Query, e match.Expr) store.Query {
	if base.Expr != nil {
		e = match.And{e, base.Expr}
	}
	base.Expr, base.Before, base.Limit = e, store.Position{}, 0
	return base
}

// Errors counts the failed requests (code 400 and above) by client, resource and code: the n largest counts, 0 for all. base
// gives the times and further conditions.
func Errors(ctx context.Context, s store.Searcher, base store.Query, n int) ([]Failure, store.Stats, error) {
	q := narrowed(base, match.And{Requests(), &match.Pred{Path: "responseStatus.code", Op: match.GreaterEqual, Values: []string{"400"}}})
	// The agent comes last: it is the one that may hold a tab, which is what joins the fields.
	buckets, st, err := s.Top(ctx, q, []string{"responseStatus.code", "objectRef.resource", "user.username", "userAgent"}, n)
	if err != nil {
		return nil, st, fmt.Errorf("cannot count errors: %w", err)
	}
	out := make([]Failure, len(buckets))
	for i, b := range buckets {
		f := fields(b.Value, 4)
		out[i] = Failure{Code: f[0], Resource: f[1], User: f[2], Agent: f[3], Count: b.Count}
	}
	return out, st, nil
}

// Load counts the requests of each client: the n largest, 0 for all, and how many requests there were in all. base gives the
// times and further conditions.
func Load(ctx context.Context, s store.Searcher, base store.Query, n int) (clients []Client, total int64, st store.Stats, err error) {
	buckets, st, err := s.Top(ctx, narrowed(base, Requests()), []string{"verb", "objectRef.resource", "user.username", "userAgent"}, 0)
	if err != nil {
		return nil, 0, st, fmt.Errorf("cannot count requests: %w", err)
	}
	at := map[[2]string]int{}
	for _, b := range buckets {
		f := fields(b.Value, 4)
		key := [2]string{f[2], f[3]}
		i, ok := at[key]
		if !ok {
			i = len(clients)
			at[key] = i
			clients = append(clients, Client{User: f[2], Agent: f[3]})
		}
		c := &clients[i]
		c.Count += b.Count
		total += b.Count
		if len(c.Most) < 3 { // buckets come largest first
			c.Most = append(c.Most, Call{f[0], f[1], b.Count})
		}
	}
	for i := range clients {
		clients[i].Share = float64(clients[i].Count) / float64(total)
	}
	slices.SortStableFunc(clients, func(a, b Client) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.User, b.User), cmp.Compare(a.Agent, b.Agent))
	})
	if n > 0 && len(clients) > n {
		clients = clients[:n]
	}
	return clients, total, st, nil
}

// fields takes a bucket's value apart.
func fields(value string, n int) []string {
	f := strings.SplitN(value, "\t", n)
	for len(f) < n {
		f = append(f, "")
	}
	return f
}

// WriteErrors writes the failures as a table, safe for a terminal.
func WriteErrors(w io.Writer, failures []Failure) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "COUNT\tCODE\tRESOURCE\tUSER\tAGENT")
	for _, f := range failures {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", f.Count, cell(f.Code), cell(f.Resource), cell(f.User), cell(ShortAgent(f.Agent)))
	}
	return t.Flush()
}

// WriteLoad writes the clients as a table, safe for a terminal. over is the time that the requests were counted over; 0 leaves
// the rates out.
func WriteLoad(w io.Writer, clients []Client, total int64, over time.Duration) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "REQUESTS\tSHARE\tPER SECOND\tUSER\tAGENT\tMOST")
	for _, c := range clients {
		rate := "-"
		if over > 0 {
			rate = fmt.Sprintf("%.3g", float64(c.Count)/over.Seconds())
		}
		most := make([]string, len(c.Most))
		for i, m := range c.Most {
			most[i] = fmt.Sprintf("%s %s (%d)", cell(m.Verb), cell(m.Resource), m.Count)
		}
		fmt.Fprintf(t, "%d\t%.1f %%\t%s\t%s\t%s\t%s\n", c.Count, 100*c.Share, rate, cell(c.User), cell(ShortAgent(c.Agent)), strings.Join(most, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d requests in all\n", total)
	return err
}

// cell is a hostile text as one cell of a table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return Cut(Sanitize(s))
}
