import java.sql.*;
import java.util.*;

/** All that pgjdbc's DatabaseMetaData tells of a database, a line for each row. */
public class Metadata {
    static void rows(String what, ResultSet rows) throws SQLException {
        ResultSetMetaData columns = rows.getMetaData();
        List<String> lines = new ArrayList<>();
        while (rows.next()) {
            StringBuilder line = new StringBuilder(what);
            for (int i = 1; i <= columns.getColumnCount(); i++) {
                line.append('|').append(columns.getColumnLabel(i)).append('=').append(rows.getString(i));
            }
            lines.add(line.toString());
        }
        Collections.sort(lines);
        lines.forEach(System.out::println);
    }

    public static void main(String[] args) throws Exception {
        try (Connection conn = DriverManager.getConnection(args[0], args[1], System.getenv("TOKEN"))) {
            DatabaseMetaData about = conn.getMetaData();
            System.out.println(about.getDatabaseProductVersion() + about.getMaxColumnNameLength() + about.getSQLKeywords());
            rows("catalogs", about.getCatalogs());
            rows("schemas", about.getSchemas());
            rows("types", about.getTableTypes());
            rows("type info", about.getTypeInfo());
            rows("functions", about.getFunctions(null, "zoo", "%"));
            rows("function columns", about.getFunctionColumns(null, "zoo", "%", "%"));
            rows("procedures", about.getProcedures(null, "zoo", "%"));
            rows("user types", about.getUDTs(null, "zoo", "%", null));
            rows("info", about.getClientInfoProperties());
            for (String schema : new String[] {"public", "zoo", "hr"}) {
                rows("tables", about.getTables(null, schema, "%", null));
                rows("columns", about.getColumns(null, schema, "%", "%"));
                rows("grants", about.getTablePrivileges(null, schema, "%"));
            }
            for (String[] table : new String[][] {{"zoo", "animal"}, {"zoo", "keeper"}, {"public", "orders"}}) {
                rows("primary", about.getPrimaryKeys(null, table[0], table[1]));
                rows("imported", about.getImportedKeys(null, table[0], table[1]));
                rows("exported", about.getExportedKeys(null, table[0], table[1]));
                rows("indexes", about.getIndexInfo(null, table[0], table[1], false, true));
                rows("best", about.getBestRowIdentifier(null, table[0], table[1], DatabaseMetaData.bestRowSession, true));
                rows("column grants", about.getColumnPrivileges(null, table[0], table[1], "%"));
            }
        }
    }
}
