package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"whodunit/internal/app"
	"whodunit/internal/auth"
)

func (c *cmdline) passwordCmd() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "password [USER]",
		Short: "Give a user (admin) a new password in a data folder that no server uses",
		Long: `For a password that is lost: prints a new one, once. Tokens, other users and everything that is kept stay as they are. Run it as the user
that the server runs as, while the server is stopped.`,
		Example: "  whodunit password --data /var/lib/whodunit",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := "admin"
			if len(args) > 0 {
				name = args[0]
			}
			a, unlock, err := c.users(data)
			if err != nil {
				return err
			}
			defer unlock()
			password, err := a.ResetPassword(name)
			if err != nil {
				return fmt.Errorf("cannot give a new password: %w", err)
			}
			fmt.Fprintln(c.Out, password)
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "the data folder ($WHODUNIT_DATA)")
	return cmd
}

// users opens the users and tokens of a data folder that no server uses; unlock is called when they have been changed.
func (c *cmdline) users(data string) (a *auth.Auth, unlock func(), err error) {
	dir := c.dataDir(data)
	if unlock, err = app.LockData(dir); err != nil {
		return nil, nil, err
	}
	if a, err = auth.New(auth.Options{Dir: dir}); err != nil {
		unlock()
		return nil, nil, err
	}
	return a, unlock, nil
}
