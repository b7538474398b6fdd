package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/pkg/labels"
	"github.com/spf13/cobra"

	"whodunit/internal/api"
	"whodunit/internal/config"
	"whodunit/internal/store/remote"
)

func (c *cmdline) alertsSilencesCmd(t *target) *cobra.Command {
	var form string
	var expired bool
	cmd := &cobra.Command{
		Use:     "silences",
		Short:   "List the silences, those first that end first",
		Example: "  whodunit alerts silences\n  whodunit alerts silences --expired -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAlerts(t, func(s alertsClient) error { return c.silences(cmd.Context(), s, expired, form) })
		},
	}
	outFlag(cmd, &form, "table", "json")
	cmd.Flags().BoolVar(&expired, "expired", false, "those too that are over")
	return cmd
}

func (c *cmdline) silences(ctx context.Context, s alertsClient, expired bool, form string) error {
	list, err := s.silences(ctx)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(s silence) bool { return !expired && s.state() == "expired" })
	slices.SortStableFunc(list, func(a, b silence) int { return a.EndsAt.Compare(b.EndsAt) })
	switch {
	case len(list) == 0:
		fmt.Fprintln(c.Err, "whodunit: no silences")
		return errNothing
	case form == "json":
		return encodeAll(c, list...)
	}
	return c.silenceTable(list)
}

func (c *cmdline) silenceTable(list []silence) error {
	wide, tty := terminal(c.Out)
	tab := newTable([]column{{name: "ID", pad: 36}, {name: "STATE", pad: 7}, {name: "ENDS", pad: 19}, {name: "BY", pad: 14, share: 1, least: 100}, {name: "MATCHERS", pad: 40, share: 4},
		{name: "COMMENT", share: 2, least: 100}}, wide)
	fmt.Fprintln(c.Out, tab.header())
	for i := range list {
		s := &list[i]
		if _, err := fmt.Fprintln(c.Out, tab.row(s.ID, s.state(), clock(s.EndsAt, tty), s.CreatedBy, s.words(), s.Comment)); err != nil {
			return err
		}
	}
	return nil
}

func (c *cmdline) alertsSilenceCmd(t *target) *cobra.Command {
	var length, comment, author string
	cmd := &cobra.Command{
		Use:   "silence MATCHER...",
		Short: "Keep the alerts quiet that all matchers match, and print the silence's id",
		Long:  "The silence holds for alerts that go on and for those to come. On standard error it says how many it matches now.",
		Example: `  whodunit alerts silence pod-exec namespace=ci --for 2h --comment 'node upgrade, OPS-812'
  whodunit alerts silence 'severity=~"low|info"' cluster=staging --for 7d --comment 'not before the release'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ms, err := matchers(args)
			if err != nil {
				return err
			}
			d, err := config.ParseDuration(length)
			if err != nil || d <= 0 {
				return fmt.Errorf("cannot read --for: %q is no duration such as 30m, 2h or 7d", length)
			}
			if strings.TrimSpace(comment) == "" {
				return errors.New("say why with --comment: whoever finds the silence wants to know")
			}
			now := c.Now().UTC()
			sil := silence{Matchers: toSilence(ms), StartsAt: now, EndsAt: now.Add(d.Std()), Comment: comment,
				CreatedBy: cmp.Or(author, t.user, c.Getenv("USER"), c.Getenv("LOGNAME"), "whodunit")}
			return c.withAlerts(t, func(s alertsClient) error { return c.silence(cmd.Context(), s, ms, sil) })
		},
	}
	cmd.Flags().StringVar(&length, "for", "1h", "how long, such as 30m, 2h or 7d")
	cmd.Flags().StringVar(&comment, "comment", "", "why; wanted")
	cmd.Flags().StringVar(&author, "author", "", "who; by default --user, or $USER")
	return cmd
}

func (c *cmdline) silence(ctx context.Context, s alertsClient, ms labels.Matchers, sil silence) error {
	var made struct{ SilenceID string }
	if err := s.call(ctx, http.MethodPost, "/api/v2/silences", sil, &made); err != nil {
		return err
	}
	if made.SilenceID == "" {
		return errors.New("the server does not say the silence's id; see 'whodunit alerts silences'")
	}
	if _, err := fmt.Fprintln(c.Out, printable(made.SilenceID, false)); err != nil {
		return err
	}
	if items, err := s.alerts(ctx); err == nil { // the token may lack the scope read
		n := len(slices.DeleteFunc(items, func(a api.AlertStatus) bool { return !covers(ms, a.Labels) }))
		fmt.Fprintf(c.Err, "whodunit: until %s; now %s %s it\n", sil.EndsAt.Format(time.RFC3339), several(n, "alert"), map[bool]string{true: "matches", false: "match"}[n == 1])
	}
	return nil
}

func (c *cmdline) alertsExpireCmd(t *target) *cobra.Command {
	return &cobra.Command{
		Use:     "expire ID...",
		Short:   "End silences now",
		Example: "  whodunit alerts expire 7d3c5e1e-4f6d-4d54-9d5e-0c7fb6f1a2b3",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAlerts(t, func(s alertsClient) error { return c.expire(cmd.Context(), s, args) })
		},
	}
}

func (c *cmdline) expire(ctx context.Context, s alertsClient, ids []string) error {
	var errs []error
	for _, id := range ids {
		err := s.call(ctx, http.MethodDelete, "/api/v2/silence/"+url.PathEscape(id), nil, nil)
		var refused *remote.Refused
		switch {
		case err == nil:
			fmt.Fprintf(c.Out, "%s expired\n", printable(id, false))
			continue
		case errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusUnprocessableEntity):
			err = fmt.Errorf("there is no silence with the id %q; 'whodunit alerts silences' lists them", id)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *cmdline) alertsTestCmd(t *target) *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use:   "test RULE",
		Short: "Send a test alert, as the rule would raise it, to its receivers",
		Long: `The alert goes at once to every receiver that it is routed to. It says that it is a test.

Exit status: 0 every receiver took it, 1 one did not, or there is none, 2 trouble.`,
		Example: "  whodunit alerts test pod-exec",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAlerts(t, func(s alertsClient) error { return c.testAlert(cmd.Context(), s, args[0], form) })
		},
	}
	outFlag(cmd, &form, "text", "json")
	return cmd
}

func (c *cmdline) testAlert(ctx context.Context, s alertsClient, rule, form string) error {
	var res api.TestResult
	err := s.call(ctx, http.MethodPost, "/api/v1/alerts/test", map[string]string{"rule": rule}, &res)
	switch {
	case err != nil:
		return err
	case form == "json":
		err = encodeAll(c, res)
	default:
		err = c.testResult(&res)
	}
	if err == nil && (len(res.Deliveries) == 0 || slices.ContainsFunc(res.Deliveries, func(d api.Delivery) bool { return !d.OK })) {
		return errFound
	}
	return err
}

func (c *cmdline) testResult(res *api.TestResult) error {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(c.Out, "%-10s %s\n", name, printable(value, false))
		}
	}
	line("labels", labelWords(res.Labels))
	line("routes", strings.Join(res.Routes, ", "))
	line("muted by", strings.Join(res.MutedBy, ", "))
	if len(res.Deliveries) == 0 {
		fmt.Fprintln(c.Out, "no receiver got it: the route that it takes has none; see alerts in docs/reference/config.md")
		return nil
	}
	wide, _ := terminal(c.Out)
	tab := newTable([]column{{name: "RECEIVER", pad: 24, share: 1}, {name: "KIND", pad: 12}, {name: "TOOK", pad: 7}, {name: "RESULT", share: 3}}, wide)
	fmt.Fprintln(c.Out, tab.header())
	for _, d := range res.Deliveries {
		result := "ok"
		if !d.OK {
			result = "failed: " + cmp.Or(d.Error, "it does not say why")
		}
		if _, err := fmt.Fprintln(c.Out, tab.row(d.Receiver, d.Kind, fmt.Sprintf("%.2fs", d.Seconds), result)); err != nil {
			return err
		}
	}
	return nil
}
