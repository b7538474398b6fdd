package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"whodunit/internal/audit"
	"whodunit/internal/query"
	"whodunit/internal/store"
	"whodunit/internal/store/wire"
)

func (c *cmdline) queryCmd() *cobra.Command {
	t := &target{}
	var form string
	var limit int
	cmd := &cobra.Command{
		Use:   "query KQL [FILE...]",
		Short: "Search events, newest first",
		Long: `Search with the language of Kibana: fields, quoted phrases, wildcards, ranges, and, or, not. See docs/reference/query.md.
-o json writes the raw events, one a line.`,
		Example: `  whodunit query 'verb:delete and resource:secrets' --since 24h
  whodunit query 'user:alice and not verb:(get or list or watch)' -o json
  whodunit query 'responseStatus.code >= 400' /var/log/kubernetes/audit*.log.gz`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t.files = args[1:]
			return c.search(cmd.Context(), t, args[0], form, limit)
		},
	}
	t.flags(cmd)
	outFlag(cmd, &form, "table", "json", "yaml")
	limitFlag(cmd, &limit, 0, "events, the newest")
	return cmd
}

func (c *cmdline) findingsCmd() *cobra.Command {
	t := &target{findings: true}
	var form string
	var limit int
	cmd := &cobra.Command{
		Use:     "findings [KQL]",
		Short:   "Search what the rules found, newest first",
		Example: "  whodunit findings --since 24h\n  whodunit findings 'severity:(high or critical) and user:alice' -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.search(cmd.Context(), t, strings.Join(args, ""), form, limit)
		},
	}
	t.flags(cmd)
	outFlag(cmd, &form, "table", "json", "yaml")
	limitFlag(cmd, &limit, 0, "findings, the newest")
	return cmd
}

// ask opens a target for one question and closes it again.
func (c *cmdline) ask(t *target, q string, f func(o *opened, sq store.Query) error) (err error) {
	e, r, err := t.expr(q, c.Now())
	if err != nil {
		return err
	}
	o, err := c.open(t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	return loginHint(f(o, store.Query{Expr: e, From: r.From, To: r.To}))
}

// loginHint adds to a server's refusal what the command line offers against it.
func loginHint(err error) error {
	var p *wire.Problem
	if errors.As(err, &p) && p.Status == http.StatusUnauthorized {
		return fmt.Errorf("%w; give a token with --token-file, or log in with --user", err)
	}
	return err
}

func (c *cmdline) search(ctx context.Context, t *target, q, form string, limit int) error {
	return c.ask(t, q, func(o *opened, sq store.Query) error {
		sq.Limit = limit
		p := c.printer(form, t.findings)
		stats, err := o.Search(ctx, sq, p.show)
		if flushed := p.w.Flush(); err == nil {
			err = flushed
		}
		if err != nil {
			return err
		}
		c.warn(stats)
		if stats.Matched == 0 {
			return c.nothing(o, sq)
		}
		return nil
	})
}

// nothing says that nothing matched, and what may be done about it.
func (c *cmdline) nothing(o *opened, q store.Query) error {
	hint := ""
	if q.From != 0 || q.To != 0 {
		hint = "; there may be some outside the time range"
	}
	fmt.Fprintf(c.Err, "whodunit: nothing found in %s%s\n", printable(o.where, false), hint)
	return errNothing
}

func (c *cmdline) tailCmd() *cobra.Command {
	t := &target{}
	var form string
	var last int
	cmd := &cobra.Command{
		Use:     "tail [KQL]",
		Short:   "Show events as they come in",
		Example: "  whodunit tail 'code >= 400'\n  whodunit tail --last 20 -o json 'user:alice'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.tail(cmd.Context(), t, strings.Join(args, ""), form, last)
		},
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&t.findings, "findings", false, "what the rules find, instead of events")
	last = 10
	cmd.Flags().VarP((*count)(&last), "last", "n", "begin with so many older ones")
	outFlag(cmd, &form, "table", "json", "yaml")
	return cmd
}

func (c *cmdline) tail(ctx context.Context, t *target, q, form string, last int) error {
	return c.ask(t, q, func(o *opened, sq store.Query) error {
		p := c.printer(form, t.findings)
		var older []*audit.Record
		if sq.Limit = last; last > 0 {
			if _, err := o.Search(ctx, sq, func(r *audit.Record) error { older = append(older, r); return nil }); err != nil {
				return err
			}
		}
		for _, r := range slices.Backward(older) {
			if err := p.show(r); err != nil {
				return err
			}
		}
		if err := p.w.Flush(); err != nil {
			return err
		}
		err := o.tail(ctx, sq, func(r *audit.Record) error {
			if err := p.show(r); err != nil {
				return err
			}
			return p.w.Flush()
		})
		if ctx.Err() != nil {
			return nil // ended by the person
		}
		return err
	})
}

// topFields are the short words of top; any other word is a field of the event.
var topFields = []string{"user", "agent", "verb", "resource", "code", "ns", "ip", "cluster"}

func (c *cmdline) topCmd() *cobra.Command {
	t := &target{}
	var form, q, every string
	var n int
	cmd := &cobra.Command{
		Use:   "top FIELD[,FIELD...] [FILE...]",
		Short: "Count events by user, agent, verb, resource, code or any other field",
		Long: `Count matching events by the values of fields, largest first. With --every, count them by time instead: FIELD is then left out.
Each stage of a request is an event of its own; -q 'stage:ResponseComplete' counts requests.`,
		Example: `  whodunit top user --since 1h
  whodunit top verb,resource -q 'user:system\:serviceaccount\:*' --limit 20
  whodunit top --every 5m -q 'code >= 500'`,
		ValidArgs: topFields,
		RunE: func(cmd *cobra.Command, args []string) error {
			if every != "" {
				t.files = args
				return c.histogram(cmd.Context(), t, q, every, form)
			}
			if len(args) == 0 {
				return errors.New("top needs a field, such as user, agent, verb, resource or code")
			}
			t.files = args[1:]
			return c.top(cmd.Context(), t, q, strings.Split(args[0], ","), n, form)
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVarP(&q, "query", "q", "", "count only what matches this search")
	limitFlag(cmd, &n, 10, "values, the most frequent")
	cmd.Flags().StringVar(&every, "every", "", "count by intervals of this length, such as 5m or 1h")
	outFlag(cmd, &form, "table", "json")
	return cmd
}

func (c *cmdline) top(ctx context.Context, t *target, q string, names []string, n int, form string) error {
	var fields []string
	for _, name := range names {
		fields = append(fields, query.Path(name))
	}
	return c.ask(t, q, func(o *opened, sq store.Query) error {
		rows, stats, err := o.Top(ctx, sq, fields, n)
		if err != nil {
			return err
		}
		c.warn(stats)
		if len(rows) == 0 {
			return c.nothing(o, sq)
		}
		return c.buckets(form, names, rows)
	})
}

func (c *cmdline) histogram(ctx context.Context, t *target, q, every, form string) error {
	width, err := time.ParseDuration(every)
	if err != nil || width < time.Microsecond {
		return fmt.Errorf("cannot read --every %q: a length such as 30s, 5m, 1h is wanted", every)
	}
	return c.ask(t, q, func(o *opened, sq store.Query) error {
		rows, stats, err := o.Histogram(ctx, sq, width.Microseconds())
		if err != nil {
			return err
		}
		c.warn(stats)
		if len(rows) == 0 {
			return c.nothing(o, sq)
		}
		for i := range rows {
			var micros int64
			if _, err := fmt.Sscan(rows[i].Value, &micros); err != nil {
				return fmt.Errorf("cannot read interval %q: %w", rows[i].Value, err)
			}
			rows[i].Value = time.UnixMicro(micros).UTC().Format(time.RFC3339)
		}
		return c.buckets(form, []string{"time"}, rows)
	})
}
