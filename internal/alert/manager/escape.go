package manager

import (
	"context"
	"regexp"
	"strings"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
)

// gap is a zero-width space: it breaks what a chat would make of a text, and people do not see it.
const gap = "\u200b"

var (
	mention  = regexp.MustCompile(`(?i)@(all|here|channel|everyone)\b`)
	forSlack = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	forChat  = strings.NewReplacer("<", "<"+gap, "](", "]"+gap+"(", "[~", "["+gap+"~")
	// Telegram refuses a message with unbalanced marks, so a name with a star in it would keep the alert away.
	forMarkdown   = strings.NewReplacer("_", `\_`, "*", `\*`, "`", "\\`", "[", `\[`)
	forMarkdownV2 = backslash("_*[]()~`>#+-=|{}.!\\")
	forLinks      = strings.NewReplacer("<", "%3C", ">", "%3E", "|", "%7C", `"`, "%22", " ", "%20", "(", "%28", ")", "%29")
)

func backslash(marks string) *strings.Replacer {
	var pairs []string
	for _, m := range strings.Split(marks, "") {
		pairs = append(pairs, m, `\`+m)
	}
	return strings.NewReplacer(pairs...)
}

// escaper says how text of an event is made harmless for a kind of receiver that interprets markup; nil: it does not, or its templates
// escape by themselves. parseMode is Telegram's.
func escaper(kind, parseMode string) func(string) string {
	unmention := func(r *strings.Replacer) func(string) string {
		return func(s string) string { return mention.ReplaceAllString(r.Replace(s), "@"+gap+"$1") }
	}
	switch kind {
	case "slack":
		return unmention(forSlack)
	case "rocketchat", "mattermost", "discord", "msteams", "msteamsv2", "webex", "wechat", "jira":
		return unmention(forChat)
	case "telegram":
		switch parseMode {
		case "Markdown":
			return forMarkdown.Replace
		case "MarkdownV2":
			return forMarkdownV2.Replace
		}
	}
	return nil
}

// escaped is ctx and copies of alerts with all text of events escaped. The alerts themselves, and so their fingerprints and the keys of
// the notification log, are left as they are.
func escaped(ctx context.Context, escape func(string) string, alerts []*amalert.Alert) (context.Context, []*amalert.Alert) {
	set := func(in model.LabelSet) model.LabelSet {
		if in == nil {
			return nil
		}
		out := make(model.LabelSet, len(in))
		for k, v := range in {
			out[model.LabelName(escapeName(string(k), escape))] = model.LabelValue(escape(string(v)))
		}
		return out
	}
	out := make([]*amalert.Alert, len(alerts))
	for i, a := range alerts {
		c := *a
		c.Labels, c.Annotations, c.GeneratorURL = set(a.Labels), set(a.Annotations), forLinks.Replace(a.GeneratorURL)
		out[i] = &c
	}
	if l, ok := notify.GroupLabels(ctx); ok {
		ctx = notify.WithGroupLabels(ctx, set(l))
	}
	if l, ok := notify.RouteLabels(ctx); ok {
		ctx = notify.WithRouteLabels(ctx, set(l))
	}
	return ctx, out
}

// escapeName leaves ordinary names alone: templates refer to them.
func escapeName(name string, escape func(string) string) string {
	if model.LegacyValidation.IsValidLabelName(name) {
		return name
	}
	return escape(name)
}
