SELECT * FROM drains ORDER BY target
