package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/pkg/labels"
	"github.com/spf13/cobra"

	"whodunit/internal/api"
	"whodunit/internal/finding"
)

func (c *cmdline) alertsCmd() *cobra.Command {
	t := &target{}
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "List, show, silence and test alerts",
		Long: `Alerts are what the findings of a server come to: one for all findings that belong together, for as long as they go on. They are asked of
a running server: --server or $WHODUNIT_SERVER, on this machine too. Reading wants a token or user with the scope read; silence, expire and
test want the scope operate.

A MATCHER is one of Alertmanager's: NAME=VALUE, NAME!=VALUE, NAME=~REGEXP, NAME!~REGEXP; a lone word in the first place is a rule's id.
amtool works too: amtool --alertmanager.url=https://HOST:PORT --http.config.file=FILE; see docs/reference/api.md.`,
		Example: `  whodunit alerts list 'severity=~"high|critical"'
  whodunit alerts silence pod-exec namespace=ci --for 2h --comment 'node upgrade'
  whodunit alerts test pod-exec`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("unknown command %q for %q: it has list, show, silences, silence, expire and test", args[0], cmd.CommandPath())
		},
	}
	t.serverFlags(cmd.PersistentFlags())
	cmd.AddCommand(c.alertsListCmd(t), c.alertsShowCmd(t), c.alertsSilencesCmd(t), c.alertsSilenceCmd(t), c.alertsExpireCmd(t), c.alertsTestCmd(t))
	return cmd
}

// alerts gives the alerts that are going on: the worst first, then the newest.
func (s alertsClient) alerts(ctx context.Context) ([]api.AlertStatus, error) {
	var page struct{ Items []api.AlertStatus }
	if err := s.call(ctx, http.MethodGet, "/api/v1/alerts", nil, &page); err != nil {
		return nil, err
	}
	slices.SortStableFunc(page.Items, func(a, b api.AlertStatus) int {
		return cmp.Or(finding.Severity(b.Labels[labelSeverity]).Rank()-finding.Severity(a.Labels[labelSeverity]).Rank(), b.StartsAt.Compare(a.StartsAt))
	})
	return page.Items, nil
}

func (c *cmdline) alertsListCmd(t *target) *cobra.Command {
	var form string
	var silenced, all bool
	cmd := &cobra.Command{
		Use:   "list [MATCHER...]",
		Short: "List the alerts that are going on, the worst first",
		Long:  "Alerts that a silence or another alert keeps quiet are left out, unless --silenced or --all says otherwise. -o json writes one alert a line.",
		Example: `  whodunit alerts list
  whodunit alerts list 'severity=~"high|critical"' namespace=shop
  whodunit alerts list pod-exec --all -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ms, err := matchers(args)
			if err != nil {
				return err
			}
			return c.withAlerts(t, func(s alertsClient) error {
				return c.alertsList(cmd.Context(), s, ms, form, func(a *api.AlertStatus) bool { return all || quiet(a) == silenced })
			})
		},
	}
	outFlag(cmd, &form, "table", "json")
	cmd.Flags().BoolVar(&silenced, "silenced", false, "those alone that are kept quiet")
	cmd.Flags().BoolVar(&all, "all", false, "those too that are kept quiet")
	return cmd
}

func quiet(a *api.AlertStatus) bool { return a.Silenced || len(a.InhibitedBy) > 0 }

func (c *cmdline) alertsList(ctx context.Context, s alertsClient, ms labels.Matchers, form string, want func(*api.AlertStatus) bool) error {
	items, err := s.alerts(ctx)
	if err != nil {
		return err
	}
	total := len(items)
	items = slices.DeleteFunc(items, func(a api.AlertStatus) bool { return !want(&a) || !covers(ms, a.Labels) })
	if len(items) == 0 {
		hint := ""
		if total > 0 {
			hint = fmt.Sprintf("; of %s going on none is asked for: 'whodunit alerts list --all' lists them", several(total, "alert"))
		}
		fmt.Fprintf(c.Err, "whodunit: no alerts%s\n", hint)
		return errNothing
	}
	if form == "json" {
		return encodeAll(c, items...)
	}
	wide, tty := terminal(c.Out)
	tab := newTable([]column{{name: "SINCE", pad: 19}, {name: "SEVERITY", pad: 8}, {name: "COUNT", pad: 6}, {name: "STATE", pad: 9}, {name: "ALERT", pad: 28, share: 2},
		{name: "FINGERPRINT", pad: 16, least: 110}, {name: "LABELS", share: 4}}, wide)
	fmt.Fprintln(c.Out, tab.header())
	for i := range items {
		a := &items[i]
		if _, err := fmt.Fprintln(c.Out, tab.row(clock(a.StartsAt, tty), a.Labels[labelSeverity], fmt.Sprint(a.Count), state(a), a.Labels[labelName], a.Fingerprint,
			labelWords(a.Labels, labelName, labelSeverity))); err != nil {
			return err
		}
	}
	return nil
}

// encodeAll writes items as JSON, one a line, for a terminal with escapes for what that would act on.
func encodeAll[T any](c *cmdline, items ...T) error {
	_, tty := terminal(c.Out)
	for _, it := range items {
		line, err := json.Marshal(it)
		if err != nil {
			return fmt.Errorf("cannot write JSON: %w", err)
		}
		if tty {
			line = escaped(line)
		}
		if _, err := c.Out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func state(a *api.AlertStatus) string {
	switch {
	case a.Silenced:
		return "silenced"
	case len(a.InhibitedBy) > 0:
		return "inhibited"
	}
	return "firing"
}

// clock is a time for people: of their zone on a terminal, of UTC elsewhere.
func clock(t time.Time, tty bool) string {
	if t.IsZero() {
		return "-"
	}
	if tty {
		return t.Local().Format(time.DateTime)
	}
	return t.UTC().Format(time.DateTime)
}

func (c *cmdline) alertsShowCmd(t *target) *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use:     "show RULE|NAME|FINGERPRINT",
		Short:   "Show all of an alert: labels, annotations, receivers, silences",
		Example: "  whodunit alerts show pod-exec\n  whodunit alerts show 3f1b6f0a2c9d4e11",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAlerts(t, func(s alertsClient) error { return c.alertsShow(cmd.Context(), s, args[0], form) })
		},
	}
	outFlag(cmd, &form, "text", "json")
	return cmd
}

func (c *cmdline) alertsShow(ctx context.Context, s alertsClient, what, form string) error {
	items, err := s.alerts(ctx)
	if err != nil {
		return err
	}
	found := slices.DeleteFunc(items, func(a api.AlertStatus) bool {
		byPrint := len(what) >= 6 && strings.HasPrefix(a.Fingerprint, strings.ToLower(what))
		return !byPrint && !strings.EqualFold(a.Labels[labelName], what) && a.Labels[labelRule] != what
	})
	if len(found) == 0 {
		fmt.Fprintf(c.Err, "whodunit: no alert that is going on has the rule, name or fingerprint %q; 'whodunit alerts list --all' lists them\n", printable(what, false))
		return errNothing
	}
	if form == "json" {
		return encodeAll(c, found...)
	}
	silences, err := s.silences(ctx)
	if err != nil {
		fmt.Fprintf(c.Err, "whodunit: silences are not shown: %s\n", printable(err.Error(), false))
	}
	_, tty := terminal(c.Out)
	for i := range found {
		if i > 0 {
			fmt.Fprintln(c.Out)
		}
		showAlert(c.Out, &found[i], silences, tty)
	}
	return nil
}

func showAlert(w io.Writer, a *api.AlertStatus, silences []silence, tty bool) {
	line := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" {
			value = strings.ReplaceAll(printable(value, true), "\n", "\n"+strings.Repeat(" ", 17)) // so that no text looks like a line of ours
			fmt.Fprintf(w, "%-16s %s\n", printable(name, false), value)
		}
	}
	line("alert", a.Labels[labelName])
	line("severity", a.Labels[labelSeverity])
	line("state", state(a))
	line("findings", fmt.Sprint(a.Count))
	line("since", clock(a.StartsAt, tty))
	if !a.LastEvent.IsZero() {
		line("events", clock(a.FirstEvent, tty)+" to "+clock(a.LastEvent, tty))
	}
	if !a.EndsAt.IsZero() {
		line("over at", clock(a.EndsAt, tty)+" unless it goes on")
	}
	line("receivers", strings.Join(a.Receivers, ", "))
	line("inhibited by", strings.Join(a.InhibitedBy, ", "))
	for i := range silences {
		if s := &silences[i]; slices.Contains(a.SilencedBy, s.ID) || a.Silenced && s.quiets(a.Labels) {
			line("silenced by", fmt.Sprintf("%s until %s by %s: %s", s.ID, clock(s.EndsAt, tty), s.CreatedBy, s.Comment))
		}
	}
	line("fingerprint", a.Fingerprint)
	line("link", a.Link)
	fmt.Fprintln(w, "labels")
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		line("  "+k, a.Labels[k])
	}
	if len(a.Annotations) > 0 {
		fmt.Fprintln(w, "annotations")
	}
	for _, k := range annotationOrder(a.Annotations) {
		if k != "link" || a.Link == "" {
			line("  "+k, a.Annotations[k])
		}
	}
}

// annotationOrder has those first that people look for first.
func annotationOrder(m map[string]string) []string {
	first := []string{"summary", "description", "command", "runbook"}
	rank := func(k string) int {
		if i := slices.Index(first, k); i >= 0 {
			return i
		}
		return len(first)
	}
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(rank(a)-rank(b), strings.Compare(a, b)) })
}
