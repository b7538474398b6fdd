package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"whodunit/internal/explain"
	"whodunit/internal/store"
)

func (c *cmdline) whoCmd() *cobra.Command {
	t := &target{}
	var form, namespace string
	var limit int
	var status bool
	cmd := &cobra.Command{
		Use:   "who deleted|created|changed|scaled|exec'd|read KIND/NAME [FILE...]",
		Short: "Who did it: one line an act, the newest last",
		Long: `One line for each act: time, person, whom they impersonated, from where, with what, the outcome, the binding that allowed it, and the
auditIDs of its events. Deleted covers collections and evictions, created covers server-side apply, read covers lists and watches; see
docs/reference/who.md. The object is one word, KIND/NAME: what follows it is taken as log files.`,
		Example: `  whodunit who deleted deploy/checkout -n shop
  whodunit who read secret/db-password -n prod --since 7d
  whodunit who "exec'd" pod/web-0 -n shop -o json
  whodunit who changed cm/settings -n shop audit.log.gz`,
		Args:      cobra.MinimumNArgs(2),
		ValidArgs: []string{"deleted", "created", "changed", "scaled", "exec'd", "read"},
		RunE: func(cmd *cobra.Command, args []string) error {
			verb, err := explain.ParseVerb(args[0])
			if err != nil {
				return err
			}
			if !strings.Contains(args[1], "/") {
				return fmt.Errorf("cannot read object %q: expected KIND/NAME in one word, such as deploy/checkout; what follows it is taken as log files", args[1])
			}
			object, err := explain.ParseObject(namespace, args[1])
			if err != nil {
				return err
			}
			t.files = args[2:]
			q := explain.Question{Verb: verb, Object: object, Status: status}
			return c.ask(t, "", func(o *opened, sq store.Query) error {
				acts, cut, stats, err := q.Acts(cmd.Context(), o, sq, limit)
				if err != nil {
					return err
				}
				c.warn(stats)
				if form == "json" {
					err = jsonLines(c, acts)
				} else {
					err = explain.Write(c.Out, q, acts, cut)
				}
				if err == nil && len(acts) == 0 {
					return errNothing
				}
				return err
			})
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "the object's namespace; without it, any")
	limitFlag(cmd, &limit, 10, "acts, the newest")
	cmd.Flags().BoolVar(&status, "status", false, "changed: show writes of the status too, which controllers do all the time")
	outFlag(cmd, &form, "text", "json")
	return cmd
}

// jsonLines writes each value as one line of JSON.
func jsonLines[T any](c *cmdline, rows []T) error {
	w := bufio.NewWriter(c.Out)
	for _, r := range rows {
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("cannot write JSON: %w", err)
		}
		w.Write(append(line, '\n'))
	}
	return w.Flush()
}

// rowsOf writes the rows of an answer as JSON or by table, or says that there are none.
func rowsOf[T any](c *cmdline, o *opened, q store.Query, stats store.Stats, form string, rows []T, table func() error) error {
	c.warn(stats)
	switch {
	case len(rows) == 0:
		return c.nothing(o, q)
	case form == "json":
		return jsonLines(c, rows)
	}
	return table()
}

func (c *cmdline) errorsCmd() *cobra.Command {
	t := &target{}
	var form, q string
	var n int
	cmd := &cobra.Command{
		Use:     "errors [FILE...]",
		Short:   "Which requests fail: by code, resource and client",
		Example: "  whodunit errors --since 1h\n  whodunit errors -q 'code:403 and not user:system\\:*'",
		RunE: func(cmd *cobra.Command, args []string) error {
			t.files = args
			return c.ask(t, q, func(o *opened, sq store.Query) error {
				rows, stats, err := explain.Errors(cmd.Context(), o, sq, n)
				if err != nil {
					return err
				}
				return rowsOf(c, o, sq, stats, form, rows, func() error { return explain.WriteErrors(c.Out, rows) })
			})
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVarP(&q, "query", "q", "", "only what matches this search")
	limitFlag(cmd, &n, 20, "rows, the most frequent")
	outFlag(cmd, &form, "table", "json")
	return cmd
}

func (c *cmdline) loadCmd() *cobra.Command {
	t := &target{}
	var form, q string
	var n int
	cmd := &cobra.Command{
		Use:     "load [FILE...]",
		Short:   "Which clients make how many requests",
		Example: "  whodunit load --since 10m\n  whodunit load --limit 5 -o json audit.log",
		RunE: func(cmd *cobra.Command, args []string) error {
			t.files = args
			return c.ask(t, q, func(o *opened, sq store.Query) error {
				rows, total, stats, err := explain.Load(cmd.Context(), o, sq, n)
				if err != nil {
					return err
				}
				var over time.Duration
				if sq.From != 0 {
					to := sq.To
					if to == 0 {
						to = c.Now().UnixMicro()
					}
					over = time.Duration(to-sq.From) * time.Microsecond
				}
				return rowsOf(c, o, sq, stats, form, rows, func() error { return explain.WriteLoad(c.Out, rows, total, over) })
			})
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVarP(&q, "query", "q", "", "only what matches this search")
	limitFlag(cmd, &n, 20, "clients, the busiest")
	outFlag(cmd, &form, "table", "json")
	return cmd
}
