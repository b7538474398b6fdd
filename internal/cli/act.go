package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"whodunit/internal/act"
	"whodunit/internal/app"
)

func (c *cmdline) actCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "act",
		Short: "What actions on findings need",
		Long: `Actions are what whodunit does in Kubernetes about findings, where the configuration says so. They are off unless actions.enabled is set,
and only tried (dry_run) until each is told otherwise.`,
	}
	cmd.AddCommand(c.actRBACCmd())
	return cmd
}

func (c *cmdline) actRBACCmd() *cobra.Command {
	var path, account string
	cmd := &cobra.Command{
		Use:   "rbac",
		Short: "Print the least that the actions of a configuration must be allowed to do",
		Long: `Prints manifests: a service account, and roles with bindings that allow the actions of the configuration and nothing else. Namespaces that
the configuration names get a Role each; a ClusterRole is there only for patterns and for what has no namespace. Print them again when
the actions change.`,
		Example: `  whodunit act rbac --config whodunit.yaml | kubectl apply -f -
  whodunit act rbac --config whodunit.yaml --account whodunit-act | kubectl diff -f -`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if path == "" {
				return errors.New("no configuration: name it with --config")
			}
			cfg, err := loadConfig(path, "")
			if err != nil {
				return err
			}
			actions, err := app.ActionList(cfg.Actions)
			if err != nil {
				return err
			}
			if len(actions) == 0 {
				return errors.New("the configuration has no actions: see actions.list in docs/reference/config.md")
			}
			manifests, err := act.RBAC(actions, cfg.Actions.Namespace, account)
			if err != nil {
				return err
			}
			_, err = c.Out.Write(manifests)
			return err
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file (docs/reference/config.md)")
	cmd.Flags().StringVar(&account, "account", "whodunit", "the service account that whodunit runs as, in actions.namespace")
	return cmd
}
