import java.sql.*;
import java.util.*;

/** JDBC through the gateway: logins, both protocols' ways of asking, COPY is left out, and cancelling. */
public class Jdbc {
    static void check(boolean holds, Object about) {
        if (!holds) {
            throw new AssertionError(about);
        }
    }

    static Connection connect(String url, String... settings) throws SQLException {
        Properties properties = new Properties();
        for (int i = 0; i < settings.length; i += 2) {
            properties.setProperty(settings[i], settings[i + 1]);
        }
        return DriverManager.getConnection(url, properties);
    }

    static void cancels(Connection conn) throws Exception {
        try (Statement statement = conn.createStatement()) {
            Thread later = new Thread(() -> {
                try {
                    Thread.sleep(700);
                    statement.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            later.start();
            long began = System.nanoTime();
            try {
                statement.execute("SELECT pg_sleep(20)");
                throw new AssertionError("it was not cancelled");
            } catch (SQLException cancelled) {
                check("57014".equals(cancelled.getSQLState()), cancelled);
                check(System.nanoTime() - began < 10_000_000_000L, "late");
            }
            later.join();
            statement.setQueryTimeout(1);
            try {
                statement.execute("SELECT pg_sleep(20)");
                throw new AssertionError("it was not cancelled in time");
            } catch (SQLException cancelled) {
                check("57014".equals(cancelled.getSQLState()), cancelled);
            }
        }
        one(conn);
    }

    static void one(Connection conn) throws SQLException {
        // More often than the driver's threshold, so that it is a named statement in the end.
        for (int i = 0; i < 8; i++) {
            try (PreparedStatement statement = conn.prepareStatement("SELECT ?::int + 1")) {
                statement.setInt(1, i);
                try (ResultSet rows = statement.executeQuery()) {
                    check(rows.next() && rows.getInt(1) == i + 1, i);
                }
            }
        }
    }

    public static void main(String[] args) throws Exception {
        String url = args[0], user = args[1], proved = args[2], ca = args[3], token = System.getenv("TOKEN");
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared"}) {
            try (Connection conn = connect(url, "user", user, "password", token, "sslmode", "disable", "preferQueryMode", mode)) {
                one(conn);
                cancels(conn);
                refused(conn);
            }
        }
        try (Connection conn = connect(url, "user", user, "password", token, "sslmode", "verify-full", "sslrootcert", ca)) {
            cancels(conn);
        }
        try (Connection conn = connect(url, "user", user, "password", token, "gssEncMode", "disable", "targetServerType", "primary")) {
            one(conn);
        }
        try (Connection conn = connect(url, "user", proved, "password", token, "sslmode", "verify-full", "sslrootcert", ca)) {
            cancels(conn);
        }
        try {
            connect(url, "user", user, "password", "wrong").close();
            throw new AssertionError("a wrong token was let in");
        } catch (SQLException error) {
            check("28000".equals(error.getSQLState()), error);
        }
        System.out.println("done");
    }

    static void refused(Connection conn) throws SQLException {
        conn.setAutoCommit(false);
        try (Statement statement = conn.createStatement()) {
            statement.execute("DROP TABLE orders");
            throw new AssertionError("it was not refused");
        } catch (SQLException error) {
            check("42501".equals(error.getSQLState()), error);
        }
        conn.rollback();
        conn.setAutoCommit(true);
        one(conn);
    }
}
