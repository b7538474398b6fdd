package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

const wantURL = "a URL that begins with https:// or http:// is wanted"

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func checkAlerts(a Alerts, report func(path, message string)) {
	if len(a.AlertmanagerURL) > 0 && a.AlertmanagerConfig != "" {
		report("alerts.alertmanager_url", "not used together with alertmanager_config: routing is the other Alertmanager's then")
	}
	if len(a.AlertmanagerURL) > 0 && len(a.Receivers) > 0 {
		report("alerts.receivers", "not used together with alertmanager_url: receivers are the other Alertmanager's then")
	}
	for i, u := range a.AlertmanagerURL {
		if !isURL(u) {
			report(fmt.Sprintf("alerts.alertmanager_url[%d]", i), wantURL)
		}
	}
	for i, r := range a.Receivers {
		at := fmt.Sprintf("alerts.receivers[%d].", i)
		switch {
		case r.Name == "":
			report(at+"name", "the name of a receiver is wanted")
		case r.Kind == "webhook" && !isURL(r.URL):
			report(at+"url", wantURL)
		case r.Kind == "file" && r.Path == "":
			report(at+"path", "a file name is wanted")
		}
	}
	for i, w := range a.Webhooks {
		if !isURL(w.URL) {
			report(fmt.Sprintf("alerts.webhooks[%d].url", i), wantURL)
		}
	}
	for i, f := range a.Falcosidekick {
		if !isURL(f.URL) {
			report(fmt.Sprintf("alerts.falcosidekick[%d].url", i), wantURL)
		}
	}
	for i, e := range a.Elasticsearch {
		at := fmt.Sprintf("alerts.elasticsearch[%d].", i)
		if !isURL(e.URL) {
			report(at+"url", wantURL)
		}
		if !indexPrefix.MatchString(e.IndexPrefix) {
			report(at+"index_prefix", fmt.Sprintf("%.60q is no beginning of an index name: lower case letters, digits and - _ . are wanted", e.IndexPrefix))
		}
	}
	for i, f := range a.Files {
		if f.Path == "" {
			report(fmt.Sprintf("alerts.files[%d].path", i), "a file name is wanted, or - for standard output")
		}
	}
}

var (
	indexPrefix = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,200}$`)
	actionName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

func checkActions(a Actions, report func(path, message string)) {
	if a.Enabled && len(a.Clusters) == 0 {
		report("actions.clusters", "at least one cluster is wanted: {name: default} is the one that whodunit runs in")
	}
	names := map[string]bool{}
	for i, c := range a.Clusters {
		if names[c.Name] {
			report(fmt.Sprintf("actions.clusters[%d].name", i), fmt.Sprintf("%q is given a second time", c.Name))
		}
		names[c.Name] = true
	}
	names = map[string]bool{}
	for i, x := range a.List {
		at := fmt.Sprintf("actions.list[%d].", i)
		switch {
		case !actionName.MatchString(x.Name):
			report(at+"name", fmt.Sprintf("%.60q is no name: lower case letters, digits and dashes are wanted, at most 63", x.Name))
		case names[x.Name]:
			report(at+"name", fmt.Sprintf("%q is given a second time", x.Name))
		}
		names[x.Name] = true
		if x.Kind == "webhook" && !isURL(x.URL) {
			report(at+"url", wantURL)
		}
		if (x.Kind == "label" || x.Kind == "annotate") && len(x.Set) == 0 {
			report(at+"set", "at least one name=value is wanted")
		}
		for j, s := range x.Set {
			if name, _, ok := strings.Cut(s, "="); !ok || name == "" {
				report(fmt.Sprintf("%sset[%d]", at, j), fmt.Sprintf("%.60q: name=value is wanted", s))
			}
		}
	}
}
